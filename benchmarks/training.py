"""Samples per second of our training loop and of a plain DataLoader loop, and the share of this machine's peak.

    python benchmarks/training.py [--model resnet8|resnet18] [--steps N] [--rounds N] [--augmentation flip_crop|none]

The plain loop is the usual one: a torchvision-style data set of PIL images with RandomCrop, flip, ToTensor and
Normalize, a DataLoader (without workers, then with two), zero_grad, forward, backward, SGD, and loss.item() at every
step. "Plain parts" is our loop with the usual form of what is around the convolutions: pictures cropped and taken pixel
by pixel, one mean a channel, nn.AdaptiveAvgPool2d. Data are random images of CIFAR-10's shape. All loops train the same
network on one thread. They alternate, so that changes in the machine's speed affect all alike; a ratio is the median
over the rounds of the ratios within a round. Times are CPU seconds, including the workers', which other jobs disturb
less than wall time. If the workers have idle cores, the wall time of the plain loop is shorter.

Training counts the operations of convolutions and matrix products, three forward passes per sample and step. Its rate
is compared with that of a product of two 2048 x 2048 float32 matrices in the same round, and with that of the forward
pass of a 3x3 convolution from 64 to 64 channels, which is faster on some machines, since it comes from another library.
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
from nclens.training.optimizer import Optimizer
from nclens.training.runtime import configure
from nclens.workflow.build.losses import build_loss
from nclens.workflow.build.models import build_network
from nclens.workflow.specs import Loss

BATCH, CLASSES, SHAPE = 128, 10, (3, 32, 32)


class Pictures(Dataset):
    """PIL images with transforms, like torchvision's data sets."""

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


class PlainParts(Trainer):
    """Our loop with the usual form of a batch: indices of pixels, one mean and standard deviation a channel."""

    def _batch(self, index):
        split = self.train_split
        pictures = split.inputs[index]
        if self.settings.augmentation == "flip_crop":
            pictures = self._cropped(pictures)
        mean, std = split.mean[..., :1, :1], split.std[..., :1, :1]
        return pictures.to(torch.float32).sub(mean).div_(std), split.targets[index]

    def _cropped(self, pictures):
        count, _, height, width = pictures.shape
        flipped, top, left = (torch.randint(high, (count, 1), generator=self.augmentation) for high in (2, 9, 9))
        rows, columns = top + torch.arange(height), left + torch.arange(width)
        columns = torch.where(flipped.bool(), columns.flip(1), columns)
        padded = nn.functional.pad(pictures, [4] * 4).permute(0, 2, 3, 1)
        picture = torch.arange(count)[:, None, None]
        return padded[picture, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)


def ours(options, images, targets, mean, std, kind=Trainer):
    """Return a function that trains some steps of our loop, and the operations per sample and step."""
    network = place_network(network_of(options), SHAPE, torch.device("cpu"))
    if kind is PlainParts and options.model == "resnet8":
        network.backbone[-2] = nn.AdaptiveAvgPool2d(1)
    operations = 3 * count_flops(network, SHAPE)
    split = Split.place(images, targets, mean, std, "cpu")
    # The plain loop has no evaluation, so the test split has a single sample.
    test = Split.place(images[:1], targets[:1], mean, std, "cpu")
    optimizer = Optimizer("sgd", 0.05, 5e-4, {"momentum": 0.9})
    settings = Settings(epochs=10_000, batch_size=BATCH, optimizer=optimizer, augmentation=options.augmentation)
    trainer = kind(network, build_loss(Loss("ce", "ce")), split, test, settings, seed=0)

    def steps():
        configure(1)
        left = iter(range(options.steps - 1))
        while trainer.advance(lambda: next(left, None) is None):
            pass

    return steps, operations


def yardsticks():
    """Return large computations by name, each with its number of operations."""
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
    """Return the CPU seconds that this process takes for a call."""
    begun = time.process_time()
    function()
    return time.process_time() - begun


def workers_seconds():
    """Return the CPU seconds that the DataLoader's workers have taken since their start."""
    times = [child.cpu_times() for child in psutil.Process().children(recursive=True)]
    return sum(taken.user + taken.system for taken in times)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", choices=["resnet8", "resnet18"], default="resnet8")
    parser.add_argument("--steps", type=int, help="steps per loop and round; by default 15, or 1 for resnet18")
    parser.add_argument("--rounds", type=int, help="rounds after a warm-up; by default 3, or 2 for resnet18")
    parser.add_argument("--augmentation", choices=["flip_crop", "none"], default="flip_crop")
    options = parser.parse_args()
    steps, rounds = {"resnet8": (15, 3), "resnet18": (1, 2)}[options.model]
    options.steps, options.rounds = options.steps or steps, options.rounds or rounds
    configure(1)
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
        "nclens, plain parts": ours(options, images, targets, mean, std, PlainParts)[0],
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
        # The workers also prefetch while the other loops run.
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
        share, plain_share = (
            statistics.median(own * operations / peak for own, peak in zip(rates[loop], values, strict=True))
            for loop in ("nclens", "nclens, plain parts")
        )
        peak = statistics.median(values) / 1e9
        print(f"{name} {peak:.1f} GFLOP/s: training reaches {share:.0%} of it, {plain_share:.0%} with plain parts")


if __name__ == "__main__":
    main()
