"""Extraction and measurement of large features: the workflow's two stages and a plain in-memory implementation.

    python benchmarks/features.py [--train 50000] [--test 10000] [--dim 2048] [--snapshots 1]

Ours are `nclens extract` and `nclens measure`, each in a process, including files, checksums and calibration. The plain
implementation writes no files: features of all batches are concatenated and converted to float64, and the collapse
metrics alone are computed, with the d x d scatter and its pseudo-inverse (`benchmarks/collapse.py`). The network is a
single wide layer, so that the features dominate the time. All run on one thread, on random images of CIFAR-10's size.
Times are CPU seconds, which other jobs disturb less than wall time. Memory is the largest peak resident size of a
process.
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

# Only the measured processes import torch: a child's peak resident size starts at that of the forked parent.

CLASSES = 10
RUN = RunFolder(Path("run"))
NETWORK = """
from torch import nn


def wide(shape, outputs, dim):
    return nn.Sequential(nn.Flatten(), nn.Linear(3072, dim), nn.ReLU(), nn.Linear(dim, outputs))
"""


def prepare(options):
    """Write random images with a weak class signal, their manifest, and snapshots of an untrained network."""
    import torch

    from nclens.workflow.build.models import build_network
    from nclens.workflow.epochs import write_epochs
    from nclens.workflow.files import write_json, write_tensors

    torch.manual_seed(0)
    tensors = {}
    for split, count in (("train", options.train), ("test", options.test)):
        targets = torch.randperm(count) % CLASSES
        images = torch.randint(0, 200, (count, 3, 32, 32), dtype=torch.uint8)
        images += (5 * targets).to(torch.uint8)[:, None, None, None]
        tensors |= {f"{split}.inputs": images, f"{split}.targets": targets}
    digest = write_tensors("data.safetensors", tensors)
    manifest = {"sha256": digest, "shape": [3, 32, 32], "mean": [0.5] * 3, "std": [0.25] * 3}
    write_json("data.json", manifest | {"classes": [str(label) for label in range(CLASSES)]})
    network = build_network(specs.flat(model(options)), (3, 32, 32), CLASSES)
    with write_epochs(RUN.snapshots, range(options.snapshots)) as put:
        for epoch in range(options.snapshots):
            put(epoch, network.state_dict())


def model(options):
    return specs.Entry("wide", function="network:wide", file="network.py", arguments={"dim": options.dim})


def extract(options):
    from nclens.workflow.stages.extract import extract

    epochs = tuple(range(options.snapshots))
    spec = specs.Extract("data", model(options), epochs, epochs, "cpu")
    extract(spec, Path("data.safetensors"), Path("data.json"), RUN.folder, 1)


def measure(options):
    from nclens.workflow.stages.measure import measure

    classifier = specs.MeasureClassifier(0.5, 0, specs.Loss("ce", "ce"), options.snapshots)
    epochs = tuple(range(options.snapshots))
    spec = specs.Measure("classification", epochs, epochs, specs.calls("classification"), classifier)
    measure(spec, RUN.folder, 1)


def plain(options):
    import torch
    from collapse import plain
    from safetensors.torch import load_file

    from nclens.workflow.build.models import build_network
    from nclens.workflow.epochs import read_weights

    torch.set_num_threads(1)
    data = load_file("data.safetensors")
    network = build_network(specs.flat(model(options)), (3, 32, 32), CLASSES)
    values = {}
    for snapshot in range(options.snapshots):
        read_weights(network, RUN.snapshots, snapshot)
        network.eval()
        for split in ("train", "test"):
            features = []
            with torch.no_grad():
                for batch in data[f"{split}.inputs"].split(250):
                    features.append(network.backbone((batch / 255 - 0.5) / 0.25))
                head = network.head
                values[split] = plain(torch.cat(features), data[f"{split}.targets"], head.weight, head.bias)
    return values


def child(name, options):
    """Run one part in a separate process; return its CPU seconds, peak memory and values."""
    command = [sys.executable, __file__, "--part", name]
    for key in ("train", "test", "dim", "snapshots"):
        command += [f"--{key}", str(getattr(options, key))]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    return json.loads(done.stdout)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--train", type=int, default=50_000)
    parser.add_argument("--test", type=int, default=10_000)
    parser.add_argument("--dim", type=int, default=2048)
    parser.add_argument("--snapshots", type=int, default=1)
    parser.add_argument("--part", choices=["prepare", "extract", "measure", "plain"], help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.part:
        begun = time.process_time()
        values = globals()[options.part](options)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
        print(json.dumps({"seconds": time.process_time() - begun, "peak": peak, "values": values}))
        return

    os.environ["OMP_NUM_THREADS"] = "1"
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        Path("network.py").write_text(NETWORK, encoding="utf-8")
        child("prepare", options)
        parts = {name: child(name, options) for name in ("extract", "measure", "plain")}
        size = RUN.features.stat().st_size
        table = [line.split(",") for line in RUN.metrics.read_text().splitlines()]
        os.chdir("/")
    found = {(split, metric): float(value) for _, split, metric, value in table[1:]}
    for split, values in parts["plain"]["values"].items():
        assert abs(found[split, "nc1"] / values["nc1"] - 1) < 1e-3, (found[split, "nc1"], values["nc1"])
    print(f"N = {options.train} + {options.test}, d = {options.dim}, K = {CLASSES}, snapshots: {options.snapshots}")
    print(f"features on disk {size / 1e9:.2f} GB")
    print(f"{'':22}{'CPU seconds':>12}{'peak memory, GB':>17}")
    for name, part in parts.items():
        print(f"{name:22}{part['seconds']:12.1f}{part['peak'] / 1e9:17.2f}")
    seconds = parts["extract"]["seconds"] + parts["measure"]["seconds"]
    memory = max(parts["extract"]["peak"], parts["measure"]["peak"])
    print(f"{'plain / ours':22}{parts['plain']['seconds'] / seconds:12.2f}{parts['plain']['peak'] / memory:17.2f}")


if __name__ == "__main__":
    main()
