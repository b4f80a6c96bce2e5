"""Numeric minimiser and Hessian spectrum of the unconstrained feature model: nclens and dense implementations.

    python benchmarks/ufm.py

Each measurement runs in a separate process, on one thread; the implementations alternate. Times are CPU seconds, which
other jobs disturb less than wall time; medians over the rounds. Extra peak memory is the growth of the peak resident
size beyond the loaded libraries. Both implementations must give the same values.

Minimiser, K = 100, d = 512, n = 100, one start. The dense implementation is scipy's L-BFGS over W, b and all N = nK
features, unscaled, until the largest entry of the gradient is 1e-8. With n = 100, 5.2 million unknowns, it takes
minutes and 1.5 GB: the comparison is at n = 20 (1.1 million). nclens, which reduces n with n lambda_h held fixed, is
also measured at full size. For n = 1 there is nothing to reduce, and the dense implementation is faster.

Hessian in (W, H) of all N samples, its eigenvalues and condition number. The dense matrix has (K + N) d rows, 214 TB at
full size: the comparison is at a tenth of every size (K = 10, d = 51, n = 10: 5,610 rows; the time grows with their
cube). nclens is also measured at full size, with all its condition numbers.
"""

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import time

# Only the measured processes import numpy: a child's peak resident size starts at that of the forked parent.

# Classes K, samples per class n, dimensions d.
WHOLE, FEWER, TENTH = (100, 100, 512), (100, 20, 512), (10, 10, 51)
# The published code's penalties; its lambda_h of 1e-6 is for 50,000 samples, and N lambda_h is held fixed.
LAMBDA_W, SAMPLES_LAMBDA_H, LAMBDA_B, SMOOTHING = 1e-3, 0.05, 1e-2, 0.05
# Measurements in this order: task, implementation, size.
MEASURED = (
    ("minimiser", "dense", FEWER),
    ("minimiser", "nclens", FEWER),
    ("minimiser", "nclens", WHOLE),
    ("hessian", "dense", TENTH),
    ("hessian", "nclens", TENTH),
    ("hessian", "nclens", WHOLE),
)


def make(classes, per_class, dim):
    from nclens.ufm.classification import UnconstrainedFeatureModel

    penalties = {"lambda_w": LAMBDA_W, "lambda_h_total": SAMPLES_LAMBDA_H, "lambda_b": LAMBDA_B}
    return UnconstrainedFeatureModel.from_total(classes, per_class, dim, **penalties, smoothing=SMOOTHING)


def dense_minimiser(problem):
    """Minimise the definition by L-BFGS over W, the features of all samples, and b."""
    import numpy as np
    from scipy.optimize import minimize
    from scipy.special import log_softmax

    k, n, d = problem.classes, problem.samples, problem.dim
    labels = np.repeat(np.arange(k), problem.per_class)
    targets = (1 - problem.smoothing) * np.eye(k)[labels] + problem.smoothing / k

    def objective(point):
        weight, features, bias = point[: k * d].reshape(k, d), point[k * d : -k].reshape(n, d), point[-k:]
        logs = log_softmax(features @ weight.T + bias, axis=1)
        slope = (np.exp(logs) - targets) / n
        squares = [problem.lambda_w * np.sum(weight**2), problem.lambda_h_sum * np.sum(features**2)]
        value = -np.sum(targets * logs) / n + (sum(squares) + problem.lambda_b * np.sum(bias**2)) / 2
        gradient = [
            (slope.T @ features + problem.lambda_w * weight).ravel(),
            (slope @ weight + problem.lambda_h_sum * features).ravel(),
            slope.sum(axis=0) + problem.lambda_b * bias,
        ]
        return value, np.concatenate(gradient)

    start = np.random.default_rng(0).standard_normal((k + n) * d + k) / d**0.5
    options = {"maxiter": 20_000, "maxfun": 40_000, "ftol": 0.0, "gtol": 1e-8}
    found = minimize(objective, start, jac=True, method="L-BFGS-B", options=options)
    weight, features = found.x[: k * d].reshape(k, d), found.x[k * d : -k].reshape(n, d)
    norms = [float(np.linalg.norm(rows, axis=1).mean()) for rows in (weight, features)]
    return {"objective": float(found.fun), "weight_norm": norms[0], "feature_norm": norms[1]}


def nclens_minimiser(problem):
    from nclens.ufm.numeric import minimise

    found = minimise(problem, starts=1)
    return {name: getattr(found, name) for name in ("objective", "weight_norm", "feature_norm")}


def dense_hessian(problem):
    """Return condition numbers from the full Hessian in (W, H), without the zero eigenvalues of the rotations."""
    import numpy as np

    k, n, d = problem.classes, problem.samples, problem.dim
    weight, features = problem.weight(), problem.features()
    labels = np.repeat(np.arange(k), problem.per_class)
    powers = np.exp(features @ weight.T)
    probabilities = powers / powers.sum(axis=1, keepdims=True)
    slope = (probabilities - (1 - problem.smoothing) * np.eye(k)[labels] - problem.smoothing / k) / n
    matrix = np.zeros(((k + n) * d, (k + n) * d))
    for i, p in enumerate(probabilities):
        curvature = (np.diag(p) - np.outer(p, p)) / n
        own = slice((k + i) * d, (k + i + 1) * d)
        mixed = np.kron(curvature @ weight, features[i][:, None]).reshape(k, d, d)
        mixed += slope[i][:, None, None] * np.eye(d)
        matrix[: k * d, : k * d] += np.kron(curvature, np.outer(features[i], features[i]))
        matrix[own, own] = weight.T @ curvature @ weight
        matrix[: k * d, own] = mixed.reshape(k * d, d)
        matrix[own, : k * d] = mixed.reshape(k * d, d).T
    matrix[np.diag_indices_from(matrix)] += np.repeat([problem.lambda_w, problem.lambda_h_sum], [k * d, n * d])
    head = np.linalg.eigvalsh(matrix[: k * d, : k * d])
    values = np.linalg.eigvalsh(matrix)
    rotations = (k - 1) * (d - k + 1) + (k - 1) * (k - 2) // 2
    return {"kappa_joint": float(values[-1] / values[rotations]), "kappa_full": float(head[-1] / head[0])}


def nclens_hessian(problem):
    from nclens.ufm.hessian import numeric_condition_numbers

    found = numeric_condition_numbers(problem, problem.weight(), problem.class_features(), problem.bias())
    return {name: found[name] for name in ("kappa_joint", "kappa_full")}


WAYS = {
    ("minimiser", "dense"): dense_minimiser,
    ("minimiser", "nclens"): nclens_minimiser,
    ("hessian", "dense"): dense_hessian,
    ("hessian", "nclens"): nclens_hessian,
}


def peak():
    """Return the peak resident size of this process in bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def measure(task, way, size):
    """Run one implementation in this process; return its time, extra peak memory and values."""
    function, problem = WAYS[task, way], make(*size)
    function(make(3, 2, 4))  # loads the libraries
    before, start = peak(), time.process_time()
    values = function(problem)
    return {"seconds": time.process_time() - start, "extra": peak() - before, "values": values}


def run(*wanted):
    command = [sys.executable, __file__, "--measure", json.dumps(wanted)]
    one_thread = os.environ | dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    found = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=one_thread)
    return json.loads(found.stdout)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=1, help="processes per measurement")
    parser.add_argument("--measure", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        print(json.dumps(measure(*json.loads(options.measure))))
        return

    results = {key: [] for key in MEASURED}
    for _ in range(options.rounds):
        for key, runs in results.items():
            runs.append(run(*key))
    print(
        f"{'':10} {'K':>4} {'n':>4} {'d':>4}  {'':6} {'seconds':>8} {'speed':>8} {'extra peak MiB':>15} {'memory':>8}"
    )
    for (task, way, size), runs in results.items():
        seconds, extra = (statistics.median(r[name] for r in runs) for name in ("seconds", "extra"))
        line = f"{task:10} {size[0]:4} {size[1]:4} {size[2]:4}  {way:6} {seconds:8.2f}"
        dense = results.get((task, "dense", size))
        if dense is None:
            print(f"{line} {'-':>8} {extra / 2**20:15.0f} {'-':>8}")
            continue
        for name, value in dense[0]["values"].items():
            assert abs(runs[0]["values"][name] - value) <= 1e-5 * abs(value), (task, name, value, runs[0]["values"])
        speed = statistics.median(r["seconds"] for r in dense) / seconds
        memory = extra / statistics.median(r["extra"] for r in dense)
        print(f"{line} {speed:7.1f}x {extra / 2**20:15.0f} {memory:7.3f}x")


if __name__ == "__main__":
    main()
