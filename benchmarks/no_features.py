"""Measurement without features on disk, on a simulated stream: memory, disk, and time beside the bare matrix products.

    python benchmarks/no_features.py [--train 1281167] [--test 50000] [--dim 2048] [--classes 1000] [--threads 1]

The stream has images of no content: the backbone draws the features of a batch, a class mean and noise, by a seed of
its first sample, and no more than a batch is in memory. The means are orthogonal, as after collapse. Each part is a
process; memory is its peak resident size, in 10^9 bytes, with what Python and PyTorch take. Seconds are processor time.

| part | what it is |
|---|---|
| `extract` | statistics of both splits as `keep_features: none` writes them, and the file |
| `passes` | of `extract`: the stream alone, two passes a split |
| `products` | the float64 products that the statistics are made of: H'H (d x d), and H times W', the class means, the \
directions of S_B and the span of W's differences; of some batches, scaled to all samples. The statistics take half of \
H'H, which is symmetric, and the class means in float32 with a check in float64 |
| `measure` | the stage `measure` on that file: every metric of a classifier |
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from nclens.workflow import specs
from nclens.workflow.paths import RunFolder

PARTS = ("extract", "passes", "products", "measure")
BATCH = 512
RUN = RunFolder(Path("run"))
LOSS = specs.Loss("ls", "ls", arguments={"smoothing": 0.1}, parameter="smoothing")
SHOWN = (0, 1, 2)


def stream(options):
    """Return a network and the splits of a simulated stream."""
    import torch
    from torch import nn

    from nclens.data.tensors import Split
    from nclens.models import Network
    from nclens.training.runtime import configure

    configure(options.threads)  # as the stage does
    torch.manual_seed(0)
    means = torch.linalg.qr(torch.randn(max(options.dim, options.classes), options.dim))[0][: options.classes]
    means = means * options.dim**0.5

    class Simulated(nn.Module):
        def forward(self, inputs):
            numbers = inputs[:, 0].long()
            drawn = torch.Generator().manual_seed(int(numbers[0]))
            noise = torch.empty(len(numbers), options.dim).normal_(generator=drawn)
            return means[numbers % options.classes].add_(noise)

    network = Network(Simulated(), options.dim, options.classes).eval()
    with torch.no_grad():
        network.head.weight.copy_(means * 0.003)
    splits, start = {}, 0
    for name, count in (("train", options.train), ("test", options.test)):
        numbers = torch.arange(start, start + count)
        one = torch.ones(1, 1)
        splits[name] = Split(numbers.float()[:, None], numbers % options.classes, 0 * one, one)
        start += count
    return network, splits


def extract(options):
    from nclens.workflow.build.statistics import statistics_of
    from nclens.workflow.epochs import write_epochs

    network, splits = stream(options)
    spec = specs.Statistics(LOSS, 1, SHOWN, onehot=False)
    with write_epochs(RUN.features, [1]) as put:
        made = statistics_of(network, splits, BATCH, network.backbone, spec, 1)
        put(1, made | {"weight": network.head.weight, "bias": network.head.bias})


def measure(options):
    import torch

    from nclens.workflow.stages.measure import measure

    classifier = specs.MeasureClassifier(0.5, 0, LOSS, 1, SHOWN)
    called = specs.calls("classification", from_statistics=True)
    measure(specs.Measure("classification", (1,), (1,), called, classifier), RUN.folder, options.threads)
    assert torch.get_num_threads() == options.threads


def passes(options):
    from nclens.metrics.sufficient import ROWS
    from nclens.training.passes import batches

    network, splits = stream(options)
    for split in splits.values():
        for _ in range(2):
            for _batch in batches(network, split, BATCH, network.backbone, ROWS):
                pass


def products(options):
    import torch

    from nclens.metrics.sufficient import ROWS

    torch.set_num_threads(options.threads)
    rank = min(options.classes - 1, options.dim)
    h = torch.randn(ROWS, options.dim, dtype=torch.float64)
    others = torch.randn(options.dim, 2 * options.classes + 2 * rank, dtype=torch.float64)
    rounds = min(8, -(-(options.train + options.test) // ROWS))
    begun = time.process_time()
    for _ in range(rounds):
        h.T @ h
        h @ others
    return (time.process_time() - begun) * (options.train + options.test) / (rounds * ROWS)


def child(name, options):
    """Run one part in a separate process; return its processor seconds, peak memory and what it found."""
    command = [sys.executable, __file__, "--part", name]
    for key in ("train", "test", "dim", "classes", "threads"):
        command += [f"--{key}", str(getattr(options, key))]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    return json.loads(done.stdout)


def main():
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--train", type=int, default=1_281_167)
    parser.add_argument("--test", type=int, default=50_000)
    parser.add_argument("--dim", type=int, default=2048)
    parser.add_argument("--classes", type=int, default=1000)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--part", choices=PARTS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.part:
        begun = time.process_time()
        found = globals()[options.part](options)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
        print(json.dumps({"seconds": found or time.process_time() - begun, "peak": peak}))
        return

    os.environ["OMP_NUM_THREADS"] = str(options.threads)
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        print(f"N = {options.train:,} + {options.test:,}, d = {options.dim}, K = {options.classes}")
        print(f"{'':12}{'processor seconds':>20}{'peak memory, GB':>18}")
        parts = {}
        for name in PARTS:
            parts[name] = part = child(name, options)
            print(f"{name:12}{part['seconds']:20.1f}{part['peak'] / 1e9:18.2f}", flush=True)
        size = RUN.features.stat().st_size
        os.chdir("/")
    whole = 4 * (options.train + options.test) * (options.dim + options.classes)
    print(f"a snapshot on disk {size / 1e9:.3f} GB; features and logits would be {whole / 1e9:.1f} GB")
    own = parts["extract"]["seconds"] - parts["passes"]["seconds"]
    print(f"statistics / products {own / parts['products']['seconds']:.2f}")


if __name__ == "__main__":
    main()
