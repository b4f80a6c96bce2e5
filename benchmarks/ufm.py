"""The unconstrained feature model's numeric minimiser and Hessian spectra against the dense straightforward way.

Run: `OMP_NUM_THREADS=1 python benchmarks/ufm.py`. Every row runs in a process of its own, so that peak memory is its own
(growth of the resident set over that after the imports). The dense way (a minimiser without scaling or Newton steps over
all N = nK features; the (K d) x (K d) Hessian in W and the joint one by torch.func.hessian, all eigenvalues) does not fit
at K = 100, d = 512, n = 100: the Hessian in W alone would take 21 GB, the joint one 2.1 TB. Both ways are therefore
compared at the largest sizes where the dense one takes about a minute, and ours alone is run at the full size.
"""

import math
import multiprocessing
import resource
import time
from collections.abc import Callable

import numpy as np
import torch
from scipy.optimize import minimize

from nclens.ufm.classification import UnconstrainedFeatureModel
from nclens.ufm.hessian import numeric_condition_numbers
from nclens.ufm.numeric import minimise, smoothed_targets
from nclens.ufm.spectra import condition_numbers

FULL = UnconstrainedFeatureModel(100, 100, 512, 1e-3, 1e-6, 1e-2, 0.05)
MINIMISER = UnconstrainedFeatureModel(20, 100, 64, 1e-3, 5e-6, 1e-2, 0.05)
SPECTRUM = UnconstrainedFeatureModel(10, 6, 16, 1e-3, 8e-4, 1e-2, 0.05)


def ours_minimise(problem: UnconstrainedFeatureModel) -> float:
    found = minimise(problem, starts=1)
    return abs(found.logit_gap / problem.logit_gap - 1)


def dense_minimise(problem: UnconstrainedFeatureModel) -> float:
    """L-BFGS by automatic differentiation on the objective as it is written, over all N features."""
    k, n, d = problem.classes, problem.samples, problem.dim
    targets = torch.from_numpy(smoothed_targets(problem))

    def objective(point: np.ndarray) -> tuple[float, np.ndarray]:
        x = torch.from_numpy(point).requires_grad_()
        weight, features, bias = x[: k * d].view(k, d), x[k * d : (k + n) * d].view(n, d), x[(k + n) * d :]
        value = -(targets * torch.log_softmax(features @ weight.T + bias, 1)).sum(1).mean()
        value = value + problem.lambda_w / 2 * weight.square().sum() + problem.lambda_b / 2 * bias.square().sum()
        value = value + problem.lambda_h_sum / 2 * features.square().sum()
        value.backward()
        return value.item(), x.grad.numpy()

    start = np.random.default_rng(0).standard_normal((k + n) * d + k) / math.sqrt(d)
    options = {"maxiter": 20_000, "maxfun": 80_000, "ftol": 0.0, "gtol": 1e-12}
    result = minimize(objective, start, jac=True, method="L-BFGS-B", options=options)
    weight, features = result.x[: k * d].reshape(k, d), result.x[k * d : (k + n) * d].reshape(n, d)
    logits = features @ weight.T
    own = logits[np.arange(n), np.repeat(np.arange(k), problem.per_class)]
    gap = np.mean(own - (logits.sum(1) - own) / (k - 1))
    return abs(gap / problem.logit_gap - 1)


def ours_spectrum(problem: UnconstrainedFeatureModel) -> float:
    numeric = numeric_condition_numbers(problem, problem.weight(), problem.class_features(), problem.bias())
    closed = condition_numbers(problem)
    return max(abs(numeric[name] / closed[name] - 1) for name in ("kappa_full", "kappa_joint"))


def dense_spectrum(problem: UnconstrainedFeatureModel) -> float:
    """All eigenvalues of the dense joint Hessian; the block in W gives kappa_full."""
    k, n, d = problem.classes, problem.samples, problem.dim
    targets = torch.from_numpy(smoothed_targets(problem))

    def objective(x: torch.Tensor) -> torch.Tensor:
        weight, features = x[: k * d].view(k, d), x[k * d :].view(n, d)
        value = -(targets * torch.log_softmax(features @ weight.T, 1)).sum(1).mean()
        value = value + problem.lambda_w / 2 * weight.square().sum()
        return value + problem.lambda_h_sum / 2 * features.square().sum()

    point = torch.from_numpy(np.concatenate([problem.weight().ravel(), problem.features().ravel()]))
    hessian = torch.func.hessian(objective)(point)
    in_w, joint = torch.linalg.eigvalsh(hessian[: k * d, : k * d]), torch.linalg.eigvalsh(hessian)
    rotations = (k - 1) * (d - k + 1) + (k - 1) * (k - 2) // 2
    closed = condition_numbers(problem)
    errors = (in_w[-1] / in_w[0] / closed["kappa_full"] - 1, joint[-1] / joint[rotations] / closed["kappa_joint"] - 1)
    return max(abs(float(error)) for error in errors)


def _measure(queue: "multiprocessing.Queue[tuple[float, float, float]]", work: Callable, problem: object) -> None:
    torch.set_num_threads(1)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    started = time.perf_counter()
    error = work(problem)
    seconds = time.perf_counter() - started
    queue.put((seconds, (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024, error))


def measure(work: Callable, problem: object) -> tuple[float, float, float]:
    """Seconds, extra peak memory in MiB and relative error to the closed form, in a fresh process."""
    context = multiprocessing.get_context("spawn")
    queue = context.Queue()
    process = context.Process(target=_measure, args=(queue, work, problem))
    process.start()
    result = queue.get()
    process.join()
    return result


def main() -> None:
    print("| what | K, d, n | way | seconds | extra MiB | relative error | dense / ours |")
    print("|---|---|---|---|---|---|---|")
    for what, ours, dense, both in (
        ("minimiser", ours_minimise, dense_minimise, MINIMISER),
        ("spectrum", ours_spectrum, dense_spectrum, SPECTRUM),
    ):
        mine, theirs = measure(ours, both), measure(dense, both)
        ratio = f"{theirs[0] / mine[0]:.0f}x time, {theirs[1] / max(mine[1], 1):.0f}x memory"
        for way, problem, (seconds, memory, error), last in (
            ("dense", both, theirs, ""),
            ("ours", both, mine, ratio),
            ("ours", FULL, measure(ours, FULL), "dense does not fit"),
        ):
            size = f"{problem.classes}, {problem.dim}, {problem.per_class}"
            print(f"| {what} | {size} | {way} | {seconds:.2f} | {memory:.0f} | {error:.0e} | {last} |", flush=True)


if __name__ == "__main__":
    main()
