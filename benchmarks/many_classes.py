"""Collapse and calibration of many classes: against the bare matrix products they need, and another version.

    python benchmarks/many_classes.py [collapse few streaming calibration temperature] [--against 6c7c34c]

Each measurement runs in a separate process with one thread; the versions alternate, so that all see the same load.
Times are processor seconds, the least of the rounds; memory is the growth of the peak resident size beyond the input,
in MiB. The bare products are of tiles: in float32 of the features with W and with the class means (nc4), in float64 of
the residuals with d directions (nc1), and of W and M with themselves and each other (nc2, cdnv). Targets: at most 1.5
times the products; calibration in at most 1.5 times the memory of the logits.
"""

import argparse
import json
import os
import subprocess
import sys
import time

from collapse import peak
from workflow import versions

# Only the measured processes import torch: a child's peak resident size starts at that of the forked parent.

CASES = {
    "collapse": (5000, 256, 20_000),
    "few": (4000, 128, 8000),
    "streaming": (50_000, 128, 5000),
    "calibration": (4000, 0, 8000),
    "temperature": (2000, 0, 2000),
}
"""Classes K, features d and samples N."""
TILE = 512


def draw(classes, dim, samples):
    """Return float32 features of noisy clusters, labels, weight, bias and, for d = 0, logits instead of features."""
    import torch

    generator = torch.Generator().manual_seed(0)
    labels = torch.randperm(samples, generator=generator) % classes
    values = torch.randn(samples, dim or classes, generator=generator)
    if not dim:
        values[torch.arange(samples), labels] += 3
        return values, labels, None, None
    centres = torch.randn(classes, dim, generator=generator)
    for rows, targets in zip(values.split(1000), labels.split(1000), strict=True):
        rows += centres[targets]
    return values, labels, torch.randn(classes, dim, generator=generator), torch.randn(classes, generator=generator)


def products(x, labels, weight, bias):
    """Multiply what the metrics of collapse multiply, and nothing else."""
    import torch

    means, square = weight.double(), torch.eye(x.shape[1], dtype=torch.float64)
    for rows in x.split(1024):
        for _ in range(2):
            for part in weight.split(TILE):
                rows @ part.T
        rows.double() @ square
    for one in means.split(TILE):
        for other in means.split(TILE):
            for _ in range(3):
                one @ other.T


def function_of(case, name):
    """Return what is measured."""
    if name == "products":
        return products
    if case == "streaming":
        from nclens import NeuralCollapse

        def stream(features, labels, weight, bias):
            metric = NeuralCollapse(len(weight), features.shape[1])
            for x, y in zip(features.split(1000), labels.split(1000), strict=True):
                metric.update(x, y, weight)

        return stream
    from nclens.metrics import calibration, collapse

    if case == "calibration":
        return lambda z, y, *_: calibration.calibration_metrics(z, y)
    if case == "temperature":
        return lambda z, y, *_: calibration.temperature_metrics(z, y, y % 5 == 0)
    return collapse.neural_collapse


def measure(case, name):
    """Run one implementation in this process; return its processor seconds and extra peak memory."""
    import torch

    torch.set_num_threads(1)
    classes, dim, samples = CASES[case]
    function = function_of(case, name)
    function(*draw(10, min(dim, 8), 200))  # loads and initialises the linear algebra libraries
    data = draw(classes, dim, samples)
    before, start = peak(), time.process_time()
    function(*data)
    return {"seconds": time.process_time() - start, "extra": (peak() - before) / 2**20}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("cases", nargs="*", help=f"some of {', '.join(CASES)}; by default all")
    parser.add_argument("--against", metavar="REVISION", help="another version")
    parser.add_argument("--rounds", type=int, default=2, help="processes per implementation")
    parser.add_argument("--measure", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        print(json.dumps(measure(*options.measure)))
        return
    print(f"{'case':12} {'K':>6} {'d':>5} {'N':>6} {'':14} {'CPU s':>8} {'over ours':>9} {'extra MiB':>10}")
    with versions(options.against) as folders:
        for case in options.cases or CASES:
            classes, dim, samples = CASES[case]
            names = [*(["products"] if case in ("collapse", "few") else []), *folders]
            found = {name: [] for name in names}
            for _ in range(options.rounds):
                for name in names:
                    source = folders.get(name, folders["this version"]) / "src"
                    variables = os.environ | {"PYTHONPATH": str(source), "OMP_NUM_THREADS": "1"}
                    command = [sys.executable, "-W", "ignore", __file__, "--measure", case, name]
                    run = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=variables)
                    found[name].append(json.loads(run.stdout))
            best = {name: min(run["seconds"] for run in runs) for name, runs in found.items()}
            for name, runs in found.items():
                extra, ratio = max(run["extra"] for run in runs), best[name] / best["this version"]
                print(
                    f"{case:12} {classes:6} {dim:5} {samples:6} {name:14} {best[name]:8.2f} {ratio:9.2f} {extra:10.0f}"
                )


if __name__ == "__main__":
    main()
