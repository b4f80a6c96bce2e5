"""Seconds per epoch of our training loop against the plain DataLoader loop, on the same model, data and thread.

The plain loop is what one writes first: a torchvision-style data set of PIL images with ToTensor and Normalize, a
DataLoader (no workers, then two), zero_grad, forward, backward, SGD. Each kind runs in turn, several times over, so
that a machine whose speed drifts slows all alike; the ratio of medians is reported.

    python benchmarks/training.py [--rounds 3] [--train-per-class 400]
"""

import argparse
import statistics
import time

import torch
from PIL import Image
from torch import nn
from torch.utils.data import DataLoader, Dataset

from nclens.data import mnist5k
from nclens.data.dataset import channel_statistics
from nclens.data.tensors import Split
from nclens.models import build_network
from nclens.objective import build_loss
from nclens.training import Settings, Trainer
from nclens.vision import import_torchvision

BATCH = 128


class Pictures(Dataset):
    """PIL images with transforms, as torchvision's data sets are."""

    def __init__(self, images, targets, transform):
        self.images = [Image.fromarray(image[0].numpy()) for image in images]
        self.targets, self.transform = targets.tolist(), transform

    def __len__(self):
        return len(self.targets)

    def __getitem__(self, index):
        return self.transform(self.images[index]), self.targets[index]


def plain_epoch(network, optimiser, loader):
    network.train()
    criterion = nn.CrossEntropyLoss()
    losses, wrong = [], []
    for inputs, targets in loader:
        logits = network(inputs)
        loss = criterion(logits, targets)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
        wrong.append((logits.argmax(1) != targets).float().mean().item())


def network_of(shape):
    torch.manual_seed(0)
    return build_network({"name": "resnet8"}, shape, 10)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--train-per-class", type=int, default=400)
    options = parser.parse_args()
    torch.set_num_threads(1)
    data = mnist5k.load(options.train_per_class, 100, 0)
    mean, std = channel_statistics(data.train_inputs)
    shape = data.train_inputs.shape[1:]
    transforms = import_torchvision().transforms
    transform = transforms.Compose([transforms.ToTensor(), transforms.Normalize(mean, std)])
    pictures = Pictures(data.train_inputs, data.train_targets, transform)

    def plain(workers):
        network = network_of(shape)
        optimiser = torch.optim.SGD(network.parameters(), lr=0.05, momentum=0.9, weight_decay=5e-4)
        keep = workers > 0
        loader = DataLoader(pictures, BATCH, shuffle=True, drop_last=True, num_workers=workers, persistent_workers=keep)
        return lambda: plain_epoch(network, optimiser, loader)

    def ours():
        network = network_of(shape).to(memory_format=torch.channels_last)
        split = Split.place(data.train_inputs, data.train_targets, mean, std, "cpu")
        # The plain loop evaluates nothing, so neither does this one: one test sample stands for the split.
        test = Split.place(data.test_inputs[:1], data.test_targets[:1], mean, std, "cpu")
        settings = Settings(epochs=10_000, batch_size=BATCH, learning_rate=0.05)
        trainer = Trainer(network, build_loss({"name": "ce"}), split, test, settings, seed=0)
        return trainer.advance

    loops = {"nclens": ours(), "DataLoader, no workers": plain(0), "DataLoader, 2 workers": plain(2)}
    seconds = {name: [] for name in loops}
    for round_number in range(options.rounds + 1):
        for name, epoch in loops.items():
            start = time.perf_counter()
            epoch()
            if round_number:  # the first round warms up
                seconds[name].append(time.perf_counter() - start)
    reference = statistics.median(seconds["nclens"])
    print(f"{len(pictures)} images {tuple(shape)}, batch {BATCH}, resnet8, one thread, {options.rounds} rounds")
    print(f"{'loop':26}{'s/epoch':>10}{'over nclens':>14}")
    for name, values in seconds.items():
        median = statistics.median(values)
        print(f"{name:26}{median:10.3f}{median / reference:14.2f}")


if __name__ == "__main__":
    main()
