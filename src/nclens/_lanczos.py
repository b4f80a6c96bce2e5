"""Lanczos' method: extreme eigenvalues of a symmetric operator that is known by its products with vectors.

Why this is no call of `scipy.sparse.linalg.eigsh`: the spectra of the unconstrained feature model have few distinct
eigenvalues, and `start` selects those that are wanted. Where the Krylov space is exhausted, ARPACK goes on from a
random vector and finds eigenvalues of the rest of the space. In 96 of 539 spectra of collapsed models (4 to 30 classes,
9 and 64 dimensions, several penalties and smoothings), whose Krylov space had five or six dimensions, its smallest
eigenvalue was one of these, too small by up to a factor of 900; tests/test_lanczos.py has a case.

For sharpness ARPACK would do, at a higher cost: twelve Hessians of a ResNet-8, a perceptron and their heads, to 1e-3,
took 161 products here, 272 by `eigsh`, and 187 with its best number of basis vectors, 10, since it looks at its error
at a restart alone.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Operator = Callable[[Array], Array]

STEPS = 120
"""Products with a vector by default, at most."""
FEWEST = 5
"""Products before an error is believed: that of the first ones may belong to another eigenvalue."""


class Ritz(NamedTuple):
    """Eigenvalues of an operator on a Krylov space, ascending.

    Attributes:
        values: Ritz values; the extreme ones are those of the operator as far as the steps go.
        error: bound on the distance of the largest one to an eigenvalue of the operator.
    """

    values: list[float]
    error: float


def lanczos(
    operator: Operator,
    start: Array,
    project: Operator | None = None,
    *,
    accuracy: float | None = None,
    steps: int = STEPS,
) -> Ritz:
    """Return the Ritz values of the Krylov space of `start`, projected at every step.

    Eigenvalues whose eigenvectors are orthogonal to `start` do not appear, so `start` selects a part of the spectrum.
    Every step is reorthogonalised and projected twice, so that rounding does not reintroduce them.

    Args:
        operator: symmetric, from arrays of the shape of `start` to such arrays.
        start: of any shape, not zero.
        project: orthogonal projection onto a subspace that the operator leaves invariant; None for the whole space.
        accuracy: stops where the largest Ritz value's error is at most this part of its size; None for all steps.
        steps: products with a vector, at most.

    >>> diagonal = np.arange(1.0, 101.0)
    >>> found = lanczos(lambda x: diagonal * x, np.ones(100), accuracy=1e-3)
    >>> abs(found.values[-1] - 100) < 0.1, len(found.values) < 50
    (True, True)
    """
    project = project or (lambda vectors: vectors)
    basis = [project(start) / np.linalg.norm(project(start))]
    diagonal: list[float] = []
    beside: list[float] = []
    error = 0.0
    for step in range(min(steps, start.size)):
        image = project(operator(basis[-1]))
        diagonal.append(float(np.vdot(basis[-1], image)))
        known = np.stack(basis).reshape(len(basis), -1)
        rest = image.ravel()
        for _ in range(2):
            rest = rest - known.T @ (known @ rest)
            rest = project(rest.reshape(start.shape)).ravel()
        left = float(np.linalg.norm(rest))
        if left <= 1e-9 * max(abs(value) for value in diagonal):
            error = left
            break
        if accuracy is not None:
            values, vectors = np.linalg.eigh(_tridiagonal(diagonal, beside))
            error = left * abs(float(vectors[-1, -1]))
            if step + 1 >= FEWEST and error <= accuracy * abs(float(values[-1])):
                break
        beside.append(left)
        basis.append(rest.reshape(start.shape) / left)
    return Ritz([float(value) for value in np.linalg.eigvalsh(_tridiagonal(diagonal, beside))], error)


def _tridiagonal(diagonal: list[float], beside: list[float]) -> Array:
    inner = beside[: len(diagonal) - 1]
    matrix: Array = np.diag(diagonal) + np.diag(inner, 1) + np.diag(inner, -1)
    return matrix
