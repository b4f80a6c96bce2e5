"""The film of a run: the same samples in planes of the last snapshot, 16 bits a number."""

import numpy as np
import pytest
import torch

from nclens.metrics.film import CLASSES, LARGEST, POINTS, Film, balanced_sample, in_16_bits
from nclens.metrics.representation import principal_plane, template_plane


def snapshot(seed, count=60, classes=4, dim=6):
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(count) % classes
    centres = 3 * torch.randn(classes, dim, generator=torch.Generator().manual_seed(9))
    return {
        "train.features": centres[labels] + torch.randn(count, dim, generator=generator),
        "train.targets": labels,
        "weight": torch.randn(classes, dim, generator=generator),
    }


def filmed(snapshots, templates=(0, 1, 2)):
    film = Film.of_classifier(snapshots[-1], templates)
    for epoch, tensors in enumerate(snapshots):
        film.add(epoch, tensors)
    return film.tensors()


@pytest.mark.parametrize(("plane", "shown"), [("principal", [3, 0, 1, 2]), ("templates", [3, 0, 1])])
def test_points_and_means_are_literal_projections_into_the_plane_of_the_last_snapshot(plane, shown):
    snapshots = [snapshot(0), snapshot(1)]
    found, last = filmed(snapshots, [3, 0, 1]), snapshots[-1]
    h, y = (last[f"train.{key}"].double() for key in ("features", "targets"))
    if plane == "templates":
        basis = template_plane(last["weight"], shown)
    else:
        basis = principal_plane(torch.stack([h[y == k].mean(dim=0) for k in shown]))
    assert found[f"{plane}.classes"].tolist() == shown
    rows, scale = found["samples"].tolist(), float(found[f"{plane}.scale"])
    assert found["labels"].tolist() == [int(y[row]) for row in rows]
    for frame, tensors in enumerate(snapshots):
        h = tensors["train.features"].double()
        means = torch.stack([h[y == k].mean(dim=0) @ basis for k in shown])
        origin = means.mean(dim=0)
        for part, expected in (("points", h[rows] @ basis - origin), ("means", means - origin)):
            at = found[f"{plane}.{part}"]
            assert at.dtype == torch.int16
            assert (at[frame] * scale - expected).abs().max() <= scale / 2 * (1 + 1e-9)
    assert found["epochs"].tolist() == [0, 1]
    assert max(found[f"{plane}.{part}"].abs().max() for part in ("points", "means")) == LARGEST


def test_a_film_is_the_same_every_time_and_takes_means_that_are_known():
    last = snapshot(0)
    film, labels = Film.of_classifier(last, [0, 1, 2]), last["train.targets"]
    film.add(0, last, torch.stack([last["train.features"].double()[labels == k].mean(dim=0) for k in range(4)]))
    again = filmed([last])
    assert all(torch.equal(value, again[name]) for name, value in film.tensors().items())


def test_of_many_classes_ten_are_shown_the_three_of_the_templates_among_them():
    found = filmed([snapshot(0, count=3000, classes=30)], [29, 4, 7])
    shown = found["classes"].tolist()
    assert len(set(shown)) == CLASSES
    assert shown[:3] == [29, 4, 7]
    assert shown[3:] == sorted(shown[3:])
    assert len(found["samples"]) == len(set(found["samples"].tolist())) == POINTS
    assert np.unique(found["labels"], return_counts=True)[1].tolist() == [POINTS // CLASSES] * CLASSES


def test_a_class_without_samples_is_replaced_in_the_plane_of_the_templates():
    last = snapshot(0, count=3000, classes=30)
    kept = last["train.targets"] != 4
    last |= {f"train.{name}": last[f"train.{name}"][kept] for name in ("features", "targets")}
    other = int(last["train.targets"][:, None].eq(torch.arange(29)).sum(0).index_fill(0, torch.tensor([7]), 0).argmax())
    assert filmed([last], [29, 4, 7])["templates.classes"].tolist() == [29, other, 7]


def test_templates_that_span_no_plane_leave_the_principal_plane_alone():
    equal = snapshot(0) | {"weight": torch.ones(4, 6)}
    for last in (equal, snapshot(0, classes=2)):
        assert {name for name in filmed([last]) if "points" in name} == {"principal.points"}


def test_two_classes_have_their_difference_along_the_first_axis_and_their_spread_along_the_second():
    found = filmed([snapshot(0, classes=2)])
    means = found["principal.means"][0].double()
    assert means[:, 1].abs().max() <= 1
    assert means[0, 0] == -means[1, 0]
    assert found["principal.points"][..., 1].abs().max() > 0


@pytest.mark.parametrize("features", [torch.zeros(60, 6), torch.ones(60, 1), torch.full((60, 6), 1e38)])
def test_features_that_are_one_are_filmed_at_the_origin(features):
    last = snapshot(0, dim=features.shape[1]) | {"train.features": features}
    found = filmed([last])
    assert not found["principal.points"].any()
    assert torch.isfinite(found["principal.scale"])


def test_a_regressor_is_shown_in_the_principal_plane_of_its_features_with_a_target_as_colour():
    generator = torch.Generator().manual_seed(0)
    last = {"train.features": torch.randn(70, 5, generator=generator), "train.targets": torch.randn(70, 2)}
    film = Film.of_regressor(last)
    film.add(3, last)
    found = film.tensors()
    rows, h = found["samples"].tolist(), last["train.features"].double()
    at = h[rows] @ principal_plane(h[rows])
    scale = float(found["principal.scale"])
    assert (found["principal.points"][0] * scale - (at - at.mean(dim=0))).abs().max() <= scale / 2 * (1 + 1e-9)
    assert found["principal.means"].shape == (1, 0, 2)
    targets = last["train.targets"][rows, 0].double()
    assert (found["values"] * found["values.scale"] - targets).abs().max() <= found["values.scale"] / 2 * (1 + 1e-9)
    assert "classes" not in found


def test_a_sample_is_balanced_as_far_as_there_are_samples():
    labels = torch.cat([torch.zeros(100), torch.ones(3), torch.full((50,), 2)]).long()
    counts = [
        int((labels[balanced_sample(labels, [0, 1, 2], count)] == k).sum()) for count in (9, 30) for k in range(3)
    ]
    assert counts == [3, 3, 3, 14, 3, 13]
    assert torch.equal(balanced_sample(labels, [0, 1, 2], 30)[:9], balanced_sample(labels, [0, 1, 2], 9))
    assert not torch.equal(balanced_sample(labels, [0], 9, seed=1), balanced_sample(labels, [0], 9))


def test_sixteen_bits():
    numbers, scale = in_16_bits(torch.tensor([-2.0, 0.0, 1.0]))
    assert numbers.tolist() == [-LARGEST, 0, round(LARGEST / 2)]
    assert float(scale) == pytest.approx(2 / LARGEST)
    assert float(in_16_bits(torch.zeros(2))[1]) == 1
