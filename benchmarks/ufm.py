"""Minimiser, Hessian spectrum and dynamics of the unconstrained feature model: nclens and dense implementations.

    python benchmarks/ufm.py [--tasks dynamics] [--rounds 1]

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

Dynamics at the size of a study's table (K = 10, d = 16, n = 10), two smoothings, five starts, with and without
momentum. The dense implementation descends one run at a time with NumPy, W and H apart, and measures the distance to
the orbit (Procrustes), the logits' error, NC1 (pseudo-inverse) and NC2 at the same checkpoints.
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
WHOLE, FEWER, TENTH, TABLE = (100, 100, 512), (100, 20, 512), (10, 10, 51), (10, 10, 16)
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
    ("dynamics", "dense", TABLE),
    ("dynamics", "nclens", TABLE),
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


def descents(problem):
    """Return the problems of the dynamics and the arguments of the descents."""
    from dataclasses import replace

    # Stronger penalties: some thousand iterations a run. The small problem only loads the libraries.
    penalties = {"lambda_w": 5e-3, "lambda_h_sum": 5e-2 / problem.samples}
    problems = [replace(problem, smoothing=smoothing, **penalties) for smoothing in (0.0, SMOOTHING)]
    return problems, {"starts": 5, "step_rules": ("relative",), "iterations": 20_000 if problem.classes > 3 else 10}


def dense_dynamics(problem):
    """Descend one run at a time."""
    import math

    import numpy as np

    from nclens.ufm import dynamics
    from nclens.ufm.spectra import joint_spectrum

    problems, given = descents(problem)
    starts = dynamics._random_starts(problem, given["starts"], 0, 1.0).numpy()
    found = {}
    for problem in problems:
        step = 0.25 / max(mode.value for mode in joint_spectrum(problem))
        for place, start in enumerate(starts):
            for momentum in (0.0, 0.9):
                passed, done = [], 0
                weight, features = start[: problem.classes], start[problem.classes :]
                speed = np.zeros_like(weight), np.zeros_like(features)
                first = dense_distances(problem, weight, features)
                while done < given["iterations"]:
                    mark = max(done + 1, math.ceil(done * dynamics.SPACING))
                    for _ in range(mark - done):
                        slopes = dense_gradient(problem, weight, features)
                        speed = tuple(momentum * v - step * slope for v, slope in zip(speed, slopes, strict=True))
                        weight, features = weight + speed[0], features + speed[1]
                    done = mark
                    passed = dense_distances(problem, weight, features) / np.array([1, 1, *first[2:]])
                    if (passed <= dynamics.TOLERANCES[-1]).all():
                        break
                found[f"{problem.smoothing} {place} {momentum}"] = done
    return found


def dense_gradient(problem, weight, features):
    """Return the gradients in W and H."""
    import numpy as np

    powers = np.exp(features @ weight.T)
    slope = powers / powers.sum(axis=1, keepdims=True) - problem.smoothing / problem.classes
    slope[np.arange(len(slope)), np.arange(len(slope)) // problem.per_class] -= 1 - problem.smoothing
    slope /= len(slope)
    return slope.T @ features + problem.lambda_w * weight, slope @ weight + problem.lambda_h_sum * features


def dense_distances(problem, weight, features):
    """Return distance to the orbit, error of the logits, NC1 and NC2."""
    import numpy as np

    k = problem.classes
    best_weight, best_features = problem.weight(), problem.features()
    left, _, right = np.linalg.svd(best_weight.T @ weight + best_features.T @ features)
    both, best = np.concatenate([weight, features]), np.concatenate([best_weight, best_features])
    logits, goal = features @ weight.T, best_features @ best_weight.T
    means = features.reshape(k, problem.per_class, -1).mean(axis=1)
    deviations, centred = features - np.repeat(means, problem.per_class, axis=0), means - means.mean(axis=0)
    within, between = deviations.T @ deviations / len(features), centred.T @ centred / k
    product = weight @ centred.T
    frame = (np.eye(k) - 1 / k) / (k - 1) ** 0.5
    return np.array(
        [
            np.linalg.norm(both - best @ left @ right) / np.linalg.norm(best),
            np.linalg.norm(logits - logits.mean(axis=1, keepdims=True) - goal) / np.linalg.norm(goal),
            np.trace(within @ np.linalg.pinv(between)) / k,
            np.linalg.norm(product / np.linalg.norm(product) - frame),
        ]
    )


def nclens_dynamics(problem):
    """Return the iterations of each run until all distances are at most 1e-6."""
    from nclens.ufm.dynamics import descend

    problems, given = descents(problem)
    runs = descend(problems, **given)
    return {f"{run.problem.smoothing} {run.start} {run.momentum}": int(run.iterations[-1]) for run in runs}


WAYS = {
    ("minimiser", "dense"): dense_minimiser,
    ("minimiser", "nclens"): nclens_minimiser,
    ("hessian", "dense"): dense_hessian,
    ("hessian", "nclens"): nclens_hessian,
    ("dynamics", "dense"): dense_dynamics,
    ("dynamics", "nclens"): nclens_dynamics,
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
    parser.add_argument("--tasks", nargs="+", choices=sorted({key[0] for key in MEASURED}), help="default: all")
    parser.add_argument("--measure", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        print(json.dumps(measure(*json.loads(options.measure))))
        return

    results = {key: [] for key in MEASURED if key[0] in (options.tasks or key)}
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
        dense_extra = statistics.median(r["extra"] for r in dense)
        # Less than a megabyte is the allocator's.
        memory = f"{extra / dense_extra:7.3f}x" if dense_extra >= 2**20 else f"{'-':>8}"
        print(f"{line} {speed:7.1f}x {extra / 2**20:15.0f} {memory}")


if __name__ == "__main__":
    main()
