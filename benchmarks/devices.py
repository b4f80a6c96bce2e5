"""Samples per second of two processes that train one network together, and of one process with two threads.

    python benchmarks/devices.py [--model resnet8|resnet18] [--batch N] [--steps N] [--rounds N]

Both take the same steps of the same batches on a CPU, on two cores: two processes with a thread each, connected by gloo
(`training: {devices: 2}`), and one process with two threads. A single process with one thread is the measure of
scaling. They alternate; a ratio is the median over the rounds of the ratios within a round. Rates are by wall time, for
that is what more cores save: measure on an idle machine. The processor time of a sample, which other jobs disturb less,
says what the cores do for it; what they wait is not in it. Data are random images of CIFAR-10's shape.
"""

import argparse
import multiprocessing
import os
import socket
import statistics
import time
import warnings

import torch

from nclens.data.tensors import Split
from nclens.models import place_network
from nclens.training.loop import Settings, Trainer
from nclens.training.optimizer import Optimizer
from nclens.training.parallel import Processes
from nclens.training.runtime import configure
from nclens.workflow.build.losses import build_loss
from nclens.workflow.build.models import build_network
from nclens.workflow.specs import Loss

CLASSES, SHAPE = 10, (3, 32, 32)
#: Processes, and the threads of each.
LAYOUTS = {"one thread": (1, 1), "two threads": (1, 2), "two processes": (2, 1)}


def trainer_of(options, parallel):
    torch.manual_seed(0)
    network = place_network(build_network({"name": options.model}, SHAPE, CLASSES), SHAPE, torch.device("cpu"))
    count = options.batch * options.steps
    images = torch.randint(0, 256, (count, *SHAPE), dtype=torch.uint8)
    targets = torch.arange(count) % CLASSES
    train = Split.place(images, targets, [0.5] * 3, [0.25] * 3, "cpu")
    # A single sample, for an evaluation is no part of this.
    test = Split.place(images[:1], targets[:1], [0.5] * 3, [0.25] * 3, "cpu")
    settings = Settings(
        epochs=10**6,
        batch_size=options.batch,
        optimizer=Optimizer("sgd", 0.05, 5e-4, {"momentum": 0.9}),
        augmentation="flip_crop",
    )
    return Trainer(network, build_loss(Loss("ce", "ce")), train, test, settings, 0, parallel=parallel)


def work(options, rank, count, threads, port, pipe):
    """Train an epoch each time it is asked; answer with its wall and processor seconds."""
    os.environ |= {"RANK": str(rank), "WORLD_SIZE": str(count), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    configure(threads)
    warnings.filterwarnings("ignore", "`broadcast_buffers` is deprecated", FutureWarning)
    trainer = trainer_of(options, Processes(torch.device("cpu")) if count > 1 else None)
    while pipe.recv():
        wall, busy = time.perf_counter(), time.process_time()
        trainer.advance()
        pipe.send((time.perf_counter() - wall, time.process_time() - busy))


def start(options, count, threads):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    pipes = []
    for rank in range(count):
        ours, theirs = multiprocessing.Pipe()
        arguments = (options, rank, count, threads, port, theirs)
        multiprocessing.Process(target=work, args=arguments, daemon=True).start()
        pipes.append(ours)
    return pipes


def measured(pipes):
    for pipe in pipes:
        pipe.send(True)
    answers = [pipe.recv() for pipe in pipes]
    return max(wall for wall, _ in answers), sum(busy for _, busy in answers)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", choices=["resnet8", "resnet18"], default="resnet8")
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()
    multiprocessing.set_start_method("spawn")
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
    started = {name: start(options, *layout) for name, layout in LAYOUTS.items()}
    for pipes in started.values():
        measured(pipes)  # a warm-up
    found = {name: [] for name in started}
    for _ in range(options.rounds):
        for name, pipes in started.items():
            found[name].append(measured(pipes))
    for pipes in started.values():
        for pipe in pipes:
            pipe.send(False)
    samples = options.batch * options.steps
    print(f"{options.model}, batches of {options.batch}, {options.steps} steps, {options.rounds} rounds")
    for name, times in found.items():
        wall, busy = (statistics.median(values) for values in zip(*times, strict=True))
        print(f"{name:14} {samples / wall:8.0f} samples a second, {1e6 * busy / samples:7.0f} CPU us a sample")
    for name, other in (("two processes", "two threads"), ("two processes", "one thread")):
        for kind, place in (("rate", 0), ("CPU time a sample", 1)):
            pairs = zip(found[name], found[other], strict=True)
            ratios = [them[place] / us[place] if place == 0 else us[place] / them[place] for us, them in pairs]
            spread = f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"
            print(f"{kind} of {name} / {other}: {spread}")


if __name__ == "__main__":
    main()
