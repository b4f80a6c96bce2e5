"""All collapse metrics for 50,000 samples, 512 features, 10 classes: nclens and plain float64 with a pseudo-inverse.

    python benchmarks/collapse.py

Each measurement runs in a separate process; the two alternate, so that both see the same load. Times are the median
over the rounds of the best call in a process. Extra peak memory is the growth of the peak resident size beyond the
float32 input. Targets: at least 5 times faster, and extra memory of at most twice the input.
"""

import argparse
import json
import resource
import statistics
import subprocess
import sys
import time

# Only the measured processes import torch: a child's peak resident size starts at that of the forked parent.

SAMPLES, DIM, CLASSES = 50_000, 512, 10


def draw(samples):
    """Return float32 features of CLASSES noisy clusters, labels, weight and bias, without a temporary copy."""
    import torch

    generator = torch.Generator().manual_seed(0)
    features = torch.randn(samples, DIM, generator=generator)
    labels = torch.randperm(samples, generator=generator) % CLASSES
    centres = torch.randn(CLASSES, DIM, generator=generator)
    for rows, targets in zip(features.split(1000), labels.split(1000), strict=True):
        rows += centres[targets]
    weight = torch.randn(CLASSES, DIM, generator=generator)
    return features, labels, weight, torch.randn(CLASSES, generator=generator)


def plain(features, labels, weight, bias):
    """Return the metrics by their textbook formulas in float64, with the d x d scatter and its pseudo-inverse."""
    import torch

    h, w = features.double(), weight.double()
    samples, classes = len(h), len(w)
    hbar = torch.stack([h[labels == k].mean(0) for k in range(classes)])
    m = hbar - hbar.mean(0)
    residual = h - hbar[labels]
    s_w, s_b = residual.T @ residual / samples, m.T @ m / classes
    etf = (torch.eye(classes).double() - 1 / classes) / (classes - 1) ** 0.5
    variances = torch.stack([residual[labels == k].square().sum(1).mean() for k in range(classes)])
    first, second = torch.triu_indices(classes, classes, 1)
    distances = (hbar[first] - hbar[second]).square().sum(1)

    def unit(a):
        return a / a.norm()

    def equiangular(a):
        a = a / a.norm(dim=1, keepdim=True)
        return ((a @ a.T)[first, second] + 1 / (classes - 1)).abs().mean()

    nc1 = torch.trace(s_w @ torch.linalg.pinv(s_b, hermitian=True)) / classes
    nc3 = (unit(w) - unit(m)).norm()
    norms, weight_norms = m.norm(dim=1), w.norm(dim=1)
    predicted = (h @ w.T + bias.double()).argmax(1)
    values = {
        "nc1": nc1,
        "nc1_sum": classes * nc1,
        "nc1_quotient": torch.trace(s_w) / torch.trace(s_b),
        "cdnv": ((variances[first] + variances[second]) / (2 * distances)).mean(),
        "nc2": (unit(w @ m.T) - etf).norm(),
        "nc2_means": (unit(m @ m.T) - etf).norm(),
        "nc2_classifier": (unit(w @ w.T) - etf).norm(),
        "nc3": nc3,
        "nc3_squared": nc3.square(),
        "equinorm_means": norms.std(correction=0) / norms.mean(),
        "equinorm_classifier": weight_norms.std(correction=0) / weight_norms.mean(),
        "equiangular_means": equiangular(m),
        "equiangular_classifier": equiangular(w),
        "nc4": (predicted != torch.cdist(h, hbar).argmin(1)).double().mean(),
        "feature_norm": norms.mean(),
        "classifier_norm": weight_norms.mean(),
        "rank_means": torch.linalg.matrix_rank(m),
    }
    return {key: float(value) for key, value in values.items()}


def peak():
    """Return the peak resident size of this process in bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def measure(name, repeats):
    """Run one implementation in this process; return its best time, extra peak memory and values."""
    import torch

    if name == "nclens":
        from nclens.metrics.collapse import neural_collapse as function
    else:
        function = plain
    data = draw(SAMPLES)
    function(*draw(40 * CLASSES))  # loads and initialises the linear algebra libraries
    before = peak()
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        values = function(*data)
        seconds.append(time.perf_counter() - start)
    return {
        "seconds": min(seconds),
        "extra": peak() - before,
        "values": values,
        "threads": torch.get_num_threads(),
    }


def run(name, repeats):
    command = [sys.executable, __file__, "--measure", name, "--repeats", str(repeats)]
    return json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3, help="processes per implementation")
    parser.add_argument("--repeats", type=int, default=3, help="calls per process, of which the best counts")
    parser.add_argument("--measure", choices=["nclens", "plain"], help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        print(json.dumps(measure(options.measure, options.repeats)))
        return

    results = {"plain": [], "nclens": []}
    for _ in range(options.rounds):
        for name, runs in results.items():
            runs.append(run(name, options.repeats))
    expected, found = results["plain"][0]["values"], results["nclens"][0]["values"]
    for key, value in expected.items():
        assert abs(found[key] - value) <= 1e-9 * abs(value) + 1e-12, (key, value, found[key])

    held = SAMPLES * DIM * 4
    seconds = {name: statistics.median(r["seconds"] for r in runs) for name, runs in results.items()}
    print(f"N = {SAMPLES}, d = {DIM}, K = {CLASSES}, {results['plain'][0]['threads']} thread(s); same values to 1e-9")
    print(f"{'':8} {'seconds':>8} {'speed':>7} {'extra peak MiB':>15} {'of the input':>13}")
    for name, runs in results.items():
        extra = max(r["extra"] for r in runs)
        speed = seconds["plain"] / seconds[name]
        print(f"{name:8} {seconds[name]:8.3f} {speed:6.1f}x {extra / 2**20:15.0f} {extra / held:12.2f}x")


if __name__ == "__main__":
    main()
