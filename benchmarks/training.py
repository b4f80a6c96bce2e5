"""Samples a second of our training loop against the plain DataLoader loop, and its share of this machine's peak.

    python benchmarks/training.py [--model resnet8|resnet18] [--steps N] [--rounds N] [--augmentation flip_crop|none]

The plain loop is what one writes first: a torchvision-style data set of PIL images with RandomCrop, flip, ToTensor and
Normalize, a DataLoader (no workers, then two), zero_grad, forward, backward, SGD, and the loss read at every step. Data
are random images of CIFAR-10's shape. All train the same network on one thread; the loops take turns, so that a machine
whose speed drifts slows all alike, and a ratio is the median over the rounds of the ratios within a round. Seconds are
CPU seconds, the workers' among them, which other jobs on the machine disturb less than the clock's: with idle cores for
its workers the plain loop takes less of the clock's time than that.

The shares are those of the convolutions' and matrix products' operations (three forward passes a sample and step) in
what a product of two 2048 x 2048 float32 matrices reaches in the same round, and in what the forward pass of a single
3x3 convolution of 64 to 64 channels reaches, which on some machines is more: matrices and convolutions come from
different libraries.
"""

import argparse
import itertools
import statistics
import time

import psutil
import torch
from PIL import Image
from torch import nn
from torch.utils.data import DataLoader, Dataset

from nclens._torchvision import import_torchvision
from nclens.data.dataset import channel_statistics
from nclens.data.tensors import Split
from nclens.models import count_flops, place_network
from nclens.training.loop import Settings, Trainer
from nclens.workflow.build.losses import build_loss
from nclens.workflow.build.models import build_network
from nclens.workflow.specs import Loss

BATCH, CLASSES, SHAPE = 128, 10, (3, 32, 32)


class Pictures(Dataset):
    """PIL images with transforms, as torchvision's data sets are."""

    def __init__(self, images, targets, transform):
        self.images = [Image.fromarray(image.permute(1, 2, 0).numpy()) for image in images]
        self.targets, self.transform = targets.tolist(), transform

    def __len__(self):
        return len(self.targets)

    def __getitem__(self, index):
        return self.transform(self.images[index]), self.targets[index]


def endless(loader):
    while True:
        yield from loader


def network_of(options):
    torch.manual_seed(0)
    return build_network({"name": options.model}, SHAPE, CLASSES)


def plain(options, pictures, workers):
    """Return a function that trains some steps of the plain loop."""
    network = network_of(options).train()
    optimiser = torch.optim.SGD(network.parameters(), lr=0.05, momentum=0.9, weight_decay=5e-4)
    criterion = nn.CrossEntropyLoss()
    loader = DataLoader(
        pictures, BATCH, shuffle=True, drop_last=True, num_workers=workers, persistent_workers=workers > 0
    )
    batches = endless(loader)

    def steps():
        losses, wrong = [], []
        for inputs, targets in itertools.islice(batches, options.steps):
            logits = network(inputs)
            loss = criterion(logits, targets)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            losses.append(loss.item())
            wrong.append((logits.argmax(1) != targets).float().mean().item())

    return steps


def ours(options, images, targets, mean, std):
    """Return a function that trains some steps of our loop, and the operations of a sample and step."""
    network = place_network(network_of(options), SHAPE, torch.device("cpu"))
    operations = 3 * count_flops(network, SHAPE)
    split = Split.place(images, targets, mean, std, "cpu")
    # The plain loop evaluates nothing, so neither does this one: one test sample stands for the split.
    test = Split.place(images[:1], targets[:1], mean, std, "cpu")
    settings = Settings(epochs=10_000, batch_size=BATCH, learning_rate=0.05, augmentation=options.augmentation)
    trainer = Trainer(network, build_loss(Loss("ce", "ce")), split, test, settings, seed=0)

    def steps():
        left = iter(range(options.steps - 1))
        while trainer.advance(lambda: next(left, None) is None):
            pass

    return steps, operations


def yardsticks():
    """Return by name a function that computes something large, and its operations."""
    size, channels, pixels = 2048, 64, 32 * 32
    factor = torch.rand(size, size)
    images = torch.rand(BATCH, channels, 32, 32).contiguous(memory_format=torch.channels_last)
    kernel = torch.rand(channels, channels, 3, 3).contiguous(memory_format=torch.channels_last)
    return {
        "matrix product": (lambda: factor @ factor, 2 * size**3),
        "convolution": (
            lambda: nn.functional.conv2d(images, kernel, padding=1),
            2 * BATCH * pixels * channels * channels * 9,
        ),
    }


def seconds_of(function):
    """Return CPU seconds of this process."""
    begun = time.process_time()
    function()
    return time.process_time() - begun


def workers_seconds():
    """Return the CPU seconds that the workers of a loader have taken since they began."""
    times = [child.cpu_times() for child in psutil.Process().children(recursive=True)]
    return sum(taken.user + taken.system for taken in times)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", choices=["resnet8", "resnet18"], default="resnet8")
    parser.add_argument("--steps", type=int, help="steps of a loop in a round; by default 15, or 1 of resnet18")
    parser.add_argument("--rounds", type=int, help="after one that warms up; by default 3, or 2 of resnet18")
    parser.add_argument("--augmentation", choices=["flip_crop", "none"], default="flip_crop")
    options = parser.parse_args()
    steps, rounds = {"resnet8": (15, 3), "resnet18": (1, 2)}[options.model]
    options.steps, options.rounds = options.steps or steps, options.rounds or rounds
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (16 * BATCH, *SHAPE), dtype=torch.uint8, generator=generator)
    targets = torch.randint(0, CLASSES, (len(images),), generator=generator)
    mean, std = channel_statistics(images)
    transforms = import_torchvision().transforms
    augmenting = [transforms.RandomCrop(SHAPE[1], padding=4), transforms.RandomHorizontalFlip()]
    parts = [*(augmenting if options.augmentation == "flip_crop" else []), transforms.ToTensor()]
    pictures = Pictures(images, targets, transforms.Compose([*parts, transforms.Normalize(mean, std)]))

    measures = yardsticks()
    train, operations = ours(options, images, targets, mean, std)
    loops = {
        "nclens": train,
        "DataLoader, no workers": plain(options, pictures, 0),
        "DataLoader, 2 workers": plain(options, pictures, 2),
    }
    samples = options.steps * BATCH
    rates = {name: [] for name in loops}
    peaks = {name: [] for name in measures}
    now = 0.0
    for round_number in range(options.rounds + 1):
        found = {name: max(count / seconds_of(run) for _ in range(3)) for name, (run, count) in measures.items()}
        seconds = {name: seconds_of(steps) for name, steps in loops.items()}
        # They also work ahead while the other loops have their turns.
        before, now = now, workers_seconds()
        seconds["DataLoader, 2 workers"] += now - before
        if round_number:  # the first round warms up
            for name, peak in found.items():
                peaks[name].append(peak)
            for name, taken in seconds.items():
                rates[name].append(samples / taken)
    print(
        f"{options.model}, batch {BATCH}, {options.augmentation}, one thread, {options.rounds} x {options.steps} steps"
    )
    print(f"{'loop':24}{'samples/CPU s':>15}{'nclens is faster by':>21}")
    for name, values in rates.items():
        ratio = statistics.median(own / other for own, other in zip(rates["nclens"], values, strict=True))
        print(f"{name:24}{statistics.median(values):15.1f}{ratio:21.2f}")
    print(f"training {statistics.median(rates['nclens']) * operations / 1e9:.1f} GFLOP/s")
    for name, values in peaks.items():
        share = statistics.median(own * operations / peak for own, peak in zip(rates["nclens"], values, strict=True))
        print(f"{name} {statistics.median(values) / 1e9:.1f} GFLOP/s: training reaches {share:.0%} of it")


if __name__ == "__main__":
    main()
