"""Lanczos' method against all eigenvalues and against ARPACK."""

import numpy as np
import pytest
from scipy.sparse.linalg import LinearOperator, eigsh

from nclens._lanczos import lanczos


@pytest.fixture
def matrix():
    generator = np.random.default_rng(0)
    basis = np.linalg.qr(generator.standard_normal((60, 60)))[0]
    return basis @ np.diag(np.r_[np.linspace(-1, 2, 59), 2.5]) @ basis.T


def test_the_largest_eigenvalue_to_the_accuracy_and_with_its_bound(matrix):
    start = np.random.default_rng(1).standard_normal(60)
    exact = np.linalg.eigvalsh(matrix)[-1]
    operator = LinearOperator(matrix.shape, matvec=lambda vector: matrix @ vector, dtype=float)
    assert eigsh(operator, k=1, which="LA", tol=1e-3, v0=start)[0][0] == pytest.approx(exact, rel=1e-3)
    for accuracy in (1e-1, 1e-3, 1e-9):
        found = lanczos(lambda vector: matrix @ vector, start, accuracy=accuracy)
        assert abs(found.values[-1] - exact) <= found.error + 1e-12 <= accuracy * exact + 1e-12
    rough, fine = (lanczos(lambda v: matrix @ v, start, accuracy=accuracy) for accuracy in (1e-1, 1e-9))
    assert len(rough.values) < len(fine.values)


def test_the_start_selects_a_part_of_the_spectrum_and_a_projection_keeps_it():
    diagonal = np.array([1.0, 2.0, 3.0, 4.0])
    assert lanczos(lambda v: diagonal * v, np.array([1.0, 1.0, 0.0, 0.0])).values == pytest.approx([1, 2])
    inside = np.array([1.0, 1.0, 1.0, 0.0])
    assert lanczos(lambda v: diagonal * v, np.ones(4), lambda v: inside * v).values == pytest.approx([1, 2, 3])


def test_arpack_leaves_the_part_of_the_spectrum_that_the_start_selects():
    """Why `eigsh` is not used: two of three eigenvalues are selected, and it returns the third as the smallest."""
    diagonal = np.repeat([1.0, 2.0, 3.0], 20)
    start = np.where(diagonal > 1, 1.0, 0.0)
    found = lanczos(lambda v: diagonal * v, start)
    assert found.values == pytest.approx([2, 3])
    operator = LinearOperator((60, 60), matvec=lambda v: diagonal * v, dtype=float)
    assert eigsh(operator, k=1, which="SA", v0=start, return_eigenvectors=False)[0] == pytest.approx(1)


def test_an_operator_that_is_zero_and_one_that_needs_more_steps():
    assert lanczos(np.zeros_like, np.ones(5), accuracy=1e-3) == ([0.0], 0.0)
    diagonal = np.linspace(0, 1, 500)
    found = lanczos(lambda v: diagonal * v, np.ones(500), accuracy=1e-9, steps=6)
    assert len(found.values) == 6
    assert found.error > 1e-3
