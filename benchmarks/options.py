"""Samples per second with each option of `training`, relative to plain float32.

    python benchmarks/options.py [--device cpu|cuda] [--model resnet8|resnet18|resnet50] [--steps 10] [--rounds 3]

Random images of CIFAR-10's shape, flip_crop. The options alternate, so that changes in the machine's speed affect all
alike; a ratio is the median over the rounds of the ratios within a round. On a CPU one thread is used, times are CPU
seconds, tf32 and CUDA graphs are omitted, and `compile` takes a while before the first round. On CUDA the peak is that
of a product of two 8192 x 8192 matrices in the option's precision; training counts the operations of convolutions and
matrix products.
"""

import argparse
import statistics
import time

import torch

from nclens.data.dataset import channel_statistics
from nclens.data.tensors import Split
from nclens.models import count_flops, place_network
from nclens.training.loop import Settings, Trainer
from nclens.training.optimizer import Optimizer
from nclens.training.runtime import configure
from nclens.workflow.build.losses import build_loss
from nclens.workflow.build.models import build_network
from nclens.workflow.specs import Loss

BATCH, CLASSES, SHAPE = 128, 10, (3, 32, 32)
OPTIONS = {
    "float32": {},
    "deterministic": {"deterministic": True},
    "tf32": {"precision": "tf32"},
    "bf16": {"precision": "bf16"},
    "compile": {"compile": True},
    "bf16, compile": {"precision": "bf16", "compile": True},
    "no CUDA graph": {"cuda_graph": "never"},
}


def trainer_of(options, precision="float32", compile=False, deterministic=False, cuda_graph="auto"):
    """Return a function that trains an epoch and returns its seconds, and the operations per sample and step."""
    device = torch.device(options.device)

    def configured():
        configure(1, precision=precision, deterministic=deterministic, autotune=True)

    configured()
    torch.manual_seed(0)
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (options.steps * BATCH, *SHAPE), dtype=torch.uint8, generator=generator)
    targets = torch.randint(0, CLASSES, (len(images),), generator=generator)
    mean, std = channel_statistics(images)
    network = place_network(build_network({"name": options.model}, SHAPE, CLASSES), SHAPE, device)
    # A single test sample, since evaluation is not measured.
    splits = [Split.place(images[:count], targets[:count], mean, std, device) for count in (len(images), 1)]
    settings = Settings(
        epochs=10_000,
        batch_size=BATCH,
        optimizer=Optimizer("sgd", 0.05, 5e-4, {"momentum": 0.9}),
        augmentation="flip_crop",
        precision=precision,
        compile=compile,
        cuda_graph=cuda_graph,
    )
    trainer = Trainer(network, build_loss(Loss("ce", "ce")), *splits, settings, seed=0)

    def steps():
        configured()
        before, begun = trainer.seconds, time.process_time()
        trainer.advance()
        # Other jobs disturb CPU seconds less than wall time.
        return trainer.seconds - before if device.type == "cuda" else time.process_time() - begun

    return steps, 3 * count_flops(network, SHAPE)


def product_rate(device, precision="float32", size=8192, **_):
    """Return the operations per second of a product of two square matrices."""
    configure(1, precision=precision)
    kind = torch.bfloat16 if precision == "bf16" else torch.float32
    factor = torch.rand(size, size, device=device, dtype=kind)
    wait = torch.cuda.synchronize if factor.is_cuda else bool
    best = float("inf")
    for _ in range(5):
        wait()
        begun = time.perf_counter()
        for _ in range(10):
            factor @ factor
        wait()
        best = min(best, (time.perf_counter() - begun) / 10)
    return 2 * size**3 / best


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--model", choices=["resnet8", "resnet18", "resnet50"], default="resnet8")
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    cuda = options.device == "cuda"
    chosen = {name: settings for name, settings in OPTIONS.items() if cuda or name not in ("tf32", "no CUDA graph")}
    loops = {name: trainer_of(options, **settings) for name, settings in chosen.items()}
    rates = {name: [] for name in loops}
    for round_number in range(options.rounds + 1):
        for name, (steps, _) in loops.items():
            seconds = steps()
            if round_number:  # the first round warms up, and compiles
                rates[name].append(options.steps * BATCH / seconds)
    where = torch.cuda.get_device_name() if cuda else "one CPU thread"
    print(f"{options.model}, batch {BATCH}, {where}, {options.rounds} rounds of {options.steps} steps")
    print(f"{'option':16}{'samples/s':>11}{'over float32':>14}{'share of peak' if cuda else '':>15}")
    for name, values in rates.items():
        ratio = statistics.median(own / plain for own, plain in zip(values, rates["float32"], strict=True))
        rate = statistics.median(values)
        share = f"{rate * loops[name][1] / product_rate(options.device, **chosen[name]):15.0%}" if cuda else ""
        print(f"{name:16}{rate:11.1f}{ratio:14.2f}{share}")


if __name__ == "__main__":
    main()
