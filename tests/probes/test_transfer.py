import numpy as np
import pytest
import torch

from nclens.probes.transfer import STRENGTHS, linear_probe


def blobs(seed, count, classes=3, dim=5, spread=1.5):
    random = torch.Generator().manual_seed(seed)
    labels = torch.arange(count) % classes
    centres = 2 * torch.eye(dim, dtype=torch.float64)[:classes]
    noise = torch.randn(count, dim, generator=random, dtype=torch.float64)
    return centres[labels] + spread * noise, labels


def literal_accuracy(x, y, x_test, y_test, strength):
    """Minimise sum_i CE + strength/2 |V|^2 by Newton-like steps on the objective written out."""
    mean = x.mean(dim=0)
    scale = (x - mean).square().mean().sqrt()
    x, x_test = (x - mean) / scale, (x_test - mean) / scale
    weight = torch.zeros(int(y.max()) + 1, x.shape[1], dtype=torch.float64, requires_grad=True)
    bias = torch.zeros(len(weight), dtype=torch.float64, requires_grad=True)
    solver = torch.optim.LBFGS(
        [weight, bias], max_iter=500, tolerance_grad=1e-10, tolerance_change=1e-14, line_search_fn="strong_wolfe"
    )

    def objective():
        solver.zero_grad()
        loss = torch.nn.functional.cross_entropy(x @ weight.T + bias, y, reduction="sum")
        loss = loss + strength / 2 * weight.square().sum()
        loss.backward()
        return loss

    solver.step(objective)
    return float(((x_test @ weight.T + bias).argmax(dim=1) == y_test).double().mean())


def test_strengths_are_45_from_1e_minus_6_to_1e5():
    assert len(STRENGTHS) == 45
    np.testing.assert_allclose([STRENGTHS[0], STRENGTHS[-1]], [1e-6, 1e5])
    np.testing.assert_allclose(np.diff(np.log10(STRENGTHS)), 11 / 44)


@pytest.mark.parametrize("strength", [1e-3, 1.0, 30.0, 1000.0])
def test_the_objective_is_the_sum_over_samples_and_half_the_penalty(strength):
    train, test = blobs(0, 60), blobs(1, 3000)
    found = linear_probe(*train, *test, strengths=[strength])
    assert found.strength == strength
    assert found.accuracy == pytest.approx(literal_accuracy(*train, *test, strength), abs=1e-9)


def test_the_accuracies_of_that_test_differ_between_strengths():
    train, test = blobs(0, 60), blobs(1, 3000)
    accuracies = {linear_probe(*train, *test, strengths=[s]).accuracy for s in (1e-3, 1.0, 30.0, 1000.0)}
    assert len(accuracies) == 4


def test_the_strength_is_picked_on_samples_that_are_held_out():
    train, test = blobs(0, 90, dim=30, spread=2.0), blobs(1, 3000, dim=30, spread=2.0)
    strengths = [1e-4, 1e-2, 1.0, 1e2]
    found = linear_probe(*train, *test, strengths=strengths)
    alone = [linear_probe(*train, *test, strengths=[strength]) for strength in strengths]
    best = max(probe.held_out_accuracy for probe in alone)
    assert found.held_out_accuracy == best
    assert found.strength == max(probe.strength for probe in alone if probe.held_out_accuracy == best)
    assert found.accuracy == next(probe.accuracy for probe in alone if probe.strength == found.strength)
    others = {linear_probe(*train, *test, strengths=strengths, seed=seed).held_out_accuracy for seed in range(6)}
    assert len(others) > 1


def test_rotating_moving_and_scaling_all_features_changes_nothing():
    (x, y), (x_test, y_test) = blobs(0, 90), blobs(1, 900)
    rotation = torch.linalg.qr(torch.randn(5, 5, generator=torch.Generator().manual_seed(2), dtype=torch.float64))[0]
    found = linear_probe(x, y, x_test, y_test)
    moved = linear_probe(1e-4 * x @ rotation + 3, y, 1e-4 * x_test @ rotation + 3, y_test)
    assert moved == found


def test_stretching_one_direction_changes_the_probe():
    (x, y), (x_test, y_test) = blobs(0, 90), blobs(1, 3000)
    stretch = torch.tensor([100.0, 1, 1, 1, 1], dtype=torch.float64)
    strengths = [1.0]
    plain = linear_probe(x, y, x_test, y_test, strengths=strengths)
    assert linear_probe(x * stretch, y, x_test * stretch, y_test, strengths=strengths).accuracy < plain.accuracy


def test_features_may_ask_for_gradients():
    x, y = blobs(0, 60)
    plain = linear_probe(x, y, x, y, strengths=[1.0])
    assert linear_probe(x.clone().requires_grad_(), y, x.clone().requires_grad_(), y, strengths=[1.0]) == plain


def test_features_that_say_nothing_give_the_largest_class():
    labels = torch.tensor([0, 0, 0, 0, 0, 0, 1, 1])
    found = linear_probe(torch.ones(8, 2), labels, torch.ones(4, 2), torch.tensor([0, 0, 0, 1]))
    assert (found.accuracy, found.strength) == (0.75, max(STRENGTHS))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"features": torch.full((6, 2), torch.nan)}, "finite"),
        ({"features": torch.zeros(6, 3)}, "columns"),
        ({"labels": torch.zeros(6, dtype=torch.int64)}, "at least two classes"),
        ({"labels": torch.tensor([0, 0, 0, 0, 0, 1])}, "two samples of each"),
        ({"labels": torch.tensor([0, 1])}, r"labels: expected shape \(6,\), one label a sample, got \(2,\)"),
        ({"test_labels": torch.zeros(2)}, "test_labels: expected an integer tensor"),
        ({"test_labels": torch.tensor([0, -1])}, "test_labels must be 0 or more, got -1 at index 1"),
        ({"strengths": [1.0, 0.0]}, r"strengths: expected finite numbers > 0, got 0\.0"),
        ({"strengths": []}, "strengths: expected at least one, got none"),
    ],
)
def test_what_cannot_be_probed_is_told(change, words):
    given = {
        "features": torch.zeros(6, 2),
        "labels": torch.tensor([0, 1, 0, 1, 0, 1]),
        "test_features": torch.zeros(2, 2),
        "test_labels": torch.tensor([0, 1]),
    }
    with pytest.raises(ValueError, match=words):
        linear_probe(**(given | change))
