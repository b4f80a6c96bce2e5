"""Tables of the unconstrained feature model: closed forms beside numeric values, and the speed of gradient descent."""

from collections.abc import Iterable, Mapping
from typing import Any

from nclens.ufm.classification import UnconstrainedFeatureModel
from nclens.ufm.hessian import numeric_condition_numbers
from nclens.ufm.numeric import minimise
from nclens.ufm.spectra import condition_numbers

#: Penalties as a study states them; `lambda_h_total` is N lambda_H.
PENALTIES = ("lambda_w", "lambda_h_total", "lambda_b")
QUANTITIES = ("logit_gap", "weight_norm", "feature_norm", "p_true", "p_other", "objective")

#: The dynamics run on a small model, so that their cost does not grow with the data set.
LARGEST_CLASSES, PER_CLASS, SPARE_DIMS = 10, 10, 7
SMOOTHINGS = (0.0, 0.05, 0.1, 0.2, 0.5, 0.8, 0.9)
FRACTION = 0.25


def theory_rows(problem: UnconstrainedFeatureModel) -> list[dict[str, Any]]:
    """Rows quantity, closed_form, numeric, relative_error = |numeric - closed_form| / |closed_form| of one problem.

    The numeric values come from the numeric minimiser and from eigenvalues of the Hessians at the point that it found.
    """
    found = minimise(problem)
    numeric: dict[str, float | None] = {name: getattr(found, name) for name in QUANTITIES}
    known = problem.dim >= problem.classes - 1 or problem.regime == "zero"
    closed: dict[str, float | None] = dict.fromkeys(QUANTITIES)
    if known:
        closed = {name: getattr(problem, name) for name in QUANTITIES} | condition_numbers(problem)
        numeric |= numeric_condition_numbers(problem, found.weight, found.class_features, found.bias)
    return [
        {
            "quantity": name,
            "closed_form": closed[name],
            "numeric": numeric[name],
            "relative_error": _relative_error(closed[name], numeric[name]),
        }
        for name in closed
    ]


def dynamics_rows(losses: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Rows of ``nclens.ufm.dynamics.records`` for every distinct (classes, lambdas) among the losses.

    Each item of ``losses`` has the keys classes, smoothing and `PENALTIES`.
    K is at most 10, n and d are small, N lambda_H is that of the loss; smoothings are a fixed grid and the losses' own.
    """
    # Imported here: torch takes seconds to load, and the theory table does without.
    from nclens.ufm.dynamics import descend, records

    settings: dict[tuple[Any, ...], set[float]] = {}
    for item in losses:
        key = (min(item["classes"], LARGEST_CLASSES), item["lambda_w"], item["lambda_h_total"], item["lambda_b"])
        settings.setdefault(key, set(SMOOTHINGS)).add(item["smoothing"])
    rows = []
    for (classes, *penalties), smoothings in settings.items():
        sizes = {"classes": classes, "per_class": PER_CLASS, "dim": classes - 1 + SPARE_DIMS}
        given = sizes | dict(zip(PENALTIES, penalties, strict=True))
        problems = [UnconstrainedFeatureModel.from_total(**given, smoothing=delta) for delta in sorted(smoothings)]
        keys = sizes | lambdas(problems[0])
        # Where W = H = 0 is the minimiser there is no relative distance to it.
        problems = [problem for problem in problems if problem.regime == "simplex"]
        rows += [keys | record for record in records(descend(problems, fraction=FRACTION) if problems else [])]
    return rows


def lambdas(problem: UnconstrainedFeatureModel) -> dict[str, float]:
    """Return the penalties of a problem under the tables' names."""
    return {"lambda_w": problem.lambda_w, "lambda_h": problem.lambda_h_sum, "lambda_b": problem.lambda_b}


def _relative_error(closed: float | None, numeric: float | None) -> float | None:
    if closed is None or numeric is None or closed == 0:
        return None
    return abs(numeric - closed) / abs(closed)
