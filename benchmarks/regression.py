"""Steps per second of our training loop and of a plain DataLoader loop, for small regression networks.

The network is a 3 x 256 perceptron with M = 1,000 samples and batch size 256: a step takes about two milliseconds, so
the overhead of Python and of the loader matters. The plain loop is the usual one: a TensorDataset of normalised inputs,
a DataLoader without workers, MSELoss, zero_grad, forward, backward, SGD, and loss and error read at every step. "Bare
matmuls" are only the matrix products of a step, forward and backward: no eager loop is faster, so their ratio to the
plain loop is an upper bound. The loops alternate, so that changes in the machine's speed affect all alike. Medians of
wall time are compared, with PyTorch's default number of threads or `--threads`; a study uses one thread per run.

    python benchmarks/regression.py [--rounds 15] [--epochs 30] [--threads 1]
"""

import argparse
import itertools
import statistics
import time

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from nclens.data.tensors import Split
from nclens.training.loop import Settings, Trainer
from nclens.training.optimizer import Optimizer
from nclens.workflow.build.losses import build_loss
from nclens.workflow.build.models import build_network
from nclens.workflow.specs import Loss

SAMPLES, INPUTS, OUTPUTS, BATCH, WIDTHS = 1000, 10, 2, 256, (256, 256, 256)
SGD = {"lr": 1e-2, "momentum": 0.9, "weight_decay": 5e-3}


def network_of():
    torch.manual_seed(0)
    return build_network({"name": "mlp", "widths": WIDTHS}, (INPUTS,), OUTPUTS)


def plain(inputs, targets):
    network = network_of()
    optimiser = torch.optim.SGD(network.parameters(), **SGD)
    loader = DataLoader(TensorDataset(inputs, targets), BATCH, shuffle=True, drop_last=True)
    criterion = nn.MSELoss()
    history = []

    def epoch():
        network.train()
        for batch, wanted in loader:
            outputs = network(batch)
            loss = criterion(outputs, wanted)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            with torch.no_grad():
                history.append((loss.item(), (outputs - wanted).square().sum(1).mean().item()))

    return epoch


def ours(inputs, targets):
    mean, std = [0.0] * INPUTS, [1.0] * INPUTS
    train = Split.place(inputs, targets, mean, std, "cpu", "regression")
    # The plain loop has no evaluation, so the test split has a single sample.
    test = Split.place(inputs[:1], targets[:1], mean, std, "cpu", "regression")
    rate, momentum, decay = SGD.values()
    settings = Settings(10**9, BATCH, Optimizer("sgd", rate, decay, {"momentum": momentum}), record_every=10**9)
    return Trainer(
        network_of(), build_loss(Loss("squared_error", "squared_error")), train, test, settings, seed=0
    ).advance


def matmuls():
    sizes = (INPUTS, *WIDTHS, OUTPUTS)
    hidden = [torch.randn(BATCH, size) for size in sizes]
    weights = [torch.randn(after, before) for before, after in itertools.pairwise(sizes)]

    def step():
        for layer, weight in enumerate(weights):
            torch.mm(hidden[layer], weight.T)
            torch.mm(hidden[layer + 1].T, hidden[layer])
            if layer:  # the inputs need no gradient
                torch.mm(hidden[layer + 1], weight)

    return lambda: [step() for _ in range(SAMPLES // BATCH)]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.set_flush_denormal(True)
    generator = torch.Generator().manual_seed(0)
    inputs, targets = (torch.randn(SAMPLES, size, generator=generator) for size in (INPUTS, OUTPUTS))
    loops = {"nclens": ours(inputs, targets), "plain": plain(inputs, targets), "bare matmuls": matmuls()}
    seconds = {name: [] for name in loops}
    for round_number in range(options.rounds + 1):
        for name, epoch in loops.items():
            start = time.perf_counter()
            for _ in range(options.epochs):
                epoch()
            if round_number:  # the first round warms up
                seconds[name].append((time.perf_counter() - start) / options.epochs / (SAMPLES // BATCH))
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    print(f"{INPUTS}-256-256-256-{OUTPUTS}, {SAMPLES} samples, batch {BATCH}, {options.rounds} rounds")
    print(f"threads: {options.threads}")
    print(f"{'loop':16}{'steps/s':>14}{'speed over plain':>18}")
    for name, value in medians.items():
        print(f"{name:16}{1 / value:14.0f}{medians['plain'] / value:18.2f}")


if __name__ == "__main__":
    main()
