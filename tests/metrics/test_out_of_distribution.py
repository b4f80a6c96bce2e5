"""Scores and their measures against literal loops, and against pytorch-ood where it is installed."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score, roc_curve

from nclens._torchvision import import_torchvision
from nclens.metrics.out_of_distribution import ALPHAS, SCORES, Detector, auroc, false_positive_rate, nc5

K, D = 4, 6


def draw(seed, n=60, shift=0.0, collapsed=1.0):
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(n) % K
    centres = 2 * torch.randn(K, D, generator=torch.Generator().manual_seed(99), dtype=torch.float64)
    noise = torch.randn(n, D, generator=generator, dtype=torch.float64)
    features = centres[labels] + collapsed * noise + shift + 1
    weight = centres + 0.1 * torch.randn(K, D, generator=torch.Generator().manual_seed(98), dtype=torch.float64)
    return features, labels, weight, features @ weight.T


# --- measures --------------------------------------------------------------------------------------------------------

numbers = st.lists(st.sampled_from([0.0, 1.0, 2.0, 3.0, 4.0, math.inf]), min_size=1, max_size=25)


@settings(max_examples=60, deadline=None)
@given(numbers, numbers, st.sampled_from([0.05, 0.5, 0.8, 0.95, 1.0]))
def test_auroc_and_fpr_are_their_definitions(inside, outside, tpr):
    own, other = torch.tensor(inside, dtype=torch.float64), torch.tensor(outside, dtype=torch.float64)
    pairs = [1.0 if a > b else 0.5 if a == b else 0.0 for a in inside for b in outside]
    assert auroc(own, other) == pytest.approx(sum(pairs) / len(pairs), abs=1e-14)
    place = next(j for j in range(1, len(inside) + 1) if 100 * j >= round(100 * tpr) * len(inside))
    threshold = sorted(inside, reverse=True)[place - 1]
    passed = [score >= threshold for score in outside]
    assert false_positive_rate(own, other, tpr) == pytest.approx(sum(passed) / len(passed), abs=1e-15)


def test_nc5_is_the_mean_cosine_of_what_is_not_centred():
    means, outside = draw(0)[0][:K], draw(1)[0]
    mean = [sum(column) / len(outside) for column in outside.T.tolist()]
    cosines = [
        sum(a * b for a, b in zip(row, mean, strict=True)) / (math.hypot(*row) * math.hypot(*mean))
        for row in means.tolist()
    ]
    assert nc5(means, outside) == pytest.approx(sum(map(abs, cosines)) / K, abs=1e-14)
    assert nc5(torch.eye(3).double()[:2], torch.eye(3).double()[2:]) == 0


# --- scores ----------------------------------------------------------------------------------------------------------


def test_mahalanobis_is_the_smallest_distance_by_the_pooled_covariance():
    features, labels, weight, _ = draw(2)
    detector, tested = Detector.fit(features, labels, weight), draw(3, n=8)[0]
    means = [features[labels == k].mean(dim=0) for k in range(K)]
    scatter = sum(torch.outer(h - means[y], h - means[y]) for h, y in zip(features, labels.tolist(), strict=True))
    inverse = torch.linalg.inv(scatter / len(features))
    expected = [-min(float((h - m) @ inverse @ (h - m)) for m in means) for h in tested]
    assert detector.rank == D
    assert detector.mahalanobis(tested).tolist() == pytest.approx(expected, rel=1e-10)


def test_the_cutoff_of_the_pseudo_inverse_and_the_rank_are_those_stated():
    features, labels, weight, _ = draw(4)
    features[:, 0] = features[:, 0] * 1e-5
    assert Detector.fit(features, labels, weight, cutoff=1e-12).rank == D
    detector = Detector.fit(features, labels, weight, cutoff=1e-6)
    assert detector.rank == D - 1
    residuals = features - torch.stack([features[labels == k].mean(dim=0) for k in range(K)])[labels]
    inverse = torch.linalg.pinv(residuals.T @ residuals / len(features), rtol=1e-6, hermitian=True)
    torch.testing.assert_close(detector.whitening @ detector.whitening.T, inverse, rtol=1e-9, atol=1e-12)


def test_a_set_without_scatter_keeps_no_direction_and_scores_are_zero():
    features, labels, weight, _ = draw(5, collapsed=0.0)
    detector = Detector.fit(features, labels, weight)
    assert detector.rank == 0
    assert detector.mahalanobis(draw(6)[0]).tolist() == [0] * 60


@pytest.mark.parametrize("directions", [1, None, D])
def test_neco_is_the_share_of_the_standardised_feature_on_the_top_directions(directions):
    features, labels, weight, _ = draw(6)
    features[:, 2] = 7.0  # a constant feature keeps scale 1
    detector, tested = Detector.fit(features, labels, weight, directions=directions), draw(7, n=9)[0]
    mean = features.mean(dim=0)
    scale = torch.tensor(
        [float(column.std(correction=0)) if float(column.std()) > 1e-9 else 1.0 for column in features.T],
        dtype=torch.float64,
    )
    _, _, axes = torch.linalg.svd((features - mean) / scale, full_matrices=True)
    for h, score in zip(tested, detector.neco(tested).tolist(), strict=True):
        standard = (h - mean) / scale
        kept = [float(axis @ standard) for axis in axes[: directions or K - 1]]
        assert score == pytest.approx(math.hypot(*kept) / float(standard.norm()), rel=1e-9)
    assert detector.neco(mean[None]).tolist() == pytest.approx([0], abs=1e-12) or directions


def test_the_other_scores_are_their_formulas():
    features, labels, weight, _ = draw(8)
    detector = Detector.fit(features, labels, weight)
    tested, _, _, logits = draw(9, n=7)
    mean = features.mean(dim=0)
    found = detector.scores(tested, logits, 0.01)
    assert tuple(found) == SCORES
    for i, (h, z) in enumerate(zip(tested, logits, strict=True)):
        others = [math.exp(float(value - z.max())) for k, value in enumerate(z) if k != int(z.argmax())]
        assert found["msp"][i].item() == pytest.approx(-math.log(sum(others)), abs=1e-11)  # ln p / (1 - p)
        assert found["max_logit"][i] == z.max()
        assert found["energy"][i].item() == pytest.approx(math.log(sum(map(math.exp, z.tolist()))), rel=1e-12)
        assert found["neco_maxlogit"][i] == found["neco"][i] * z.max()
        centred = h - mean
        expected = weight[z.argmax()] @ centred / centred.norm() + 0.01 * sum(map(abs, h.tolist()))
        assert found["nci"][i].item() == pytest.approx(float(expected), rel=1e-12)


def test_alpha_has_the_highest_auroc_on_the_samples_given():
    features, labels, weight, _ = draw(10)
    detector = Detector.fit(features, labels, weight)
    inside, outside = draw(11), draw(12, shift=0.7)
    values = {
        alpha: auroc(detector.nci(inside[0], inside[3], alpha), detector.nci(outside[0], outside[3], alpha))
        for alpha in ALPHAS
    }
    chosen = detector.fit_alpha((inside[0], inside[3]), (outside[0], outside[3]))
    assert values[chosen] == max(values.values())
    assert detector.fit_alpha((inside[0], inside[3]), (inside[0], inside[3]), [0.1, 0.01]) == 0.1


def test_agreement_with_the_formulas_of_pytorch_ood():
    """As written there, for where it is not installed: outlier scores, outsiders positive, FPR on a ROC curve."""
    features, labels, weight, _ = draw(13, n=200)
    inside, outside = draw(14, n=90), draw(15, n=70, shift=1.0)
    detector = Detector.fit(features, labels, weight)
    h, z = (torch.cat([one, other]) for one, other in ((inside[0], outside[0]), (inside[3], outside[3])))
    means = torch.stack([features[labels == k].mean(dim=0) for k in range(K)])
    precision = torch.linalg.inv(torch.cov((features - means[labels]).T, correction=0))
    offsets = h[:, None] - means
    moved = torch.nn.functional.normalize(h - features.mean(dim=0), dim=1)
    theirs = {
        "max_logit": -z.max(dim=1).values,
        "energy": -torch.logsumexp(z, dim=1),
        "mahalanobis": torch.einsum("nki,ij,nkj->nk", offsets, precision, offsets).min(dim=1).values,
        "nci": -((weight[z.argmax(dim=1)] * moved).sum(dim=1) + 0.01 * h.norm(p=1, dim=1)),
    }
    own, other = (detector.scores(one[0], one[3], 0.01) for one in (inside, outside))
    outsiders = torch.arange(160) >= 90
    for name, score in theirs.items():
        torch.testing.assert_close(-score, torch.cat([own[name], other[name]]), rtol=1e-9, atol=1e-9)
        assert auroc(own[name], other[name]) == pytest.approx(roc_auc_score(outsiders, score), abs=1e-12)
        swapped, as_there = (fpr_at_tpr(sign * score, outsiders == (sign > 0)) for sign in (-1, 1))
        assert false_positive_rate(own[name], other[name]) == pytest.approx(swapped, abs=1e-12)
        assert false_positive_rate(-other[name], -own[name]) == pytest.approx(as_there, abs=1e-12)


def fpr_at_tpr(scores, positive, tpr=0.95):
    """The first point of the curve with a recall of 95%, as pytorch-ood takes it."""
    false, true, _ = roc_curve(positive, scores, drop_intermediate=False)
    return false[np.searchsorted(true, tpr)]


def test_agreement_with_pytorch_ood():
    """Its scores have the other sign; its FPR95 has outsiders as the positive class, so that labels are swapped."""
    import_torchvision()
    ood = pytest.importorskip("pytorch_ood.detector")
    functional = pytest.importorskip("pytorch_ood.metrics.functional")
    features, labels, weight, _ = draw(13, n=200)
    inside, outside = draw(14, n=90), draw(15, n=70, shift=1.0)
    detector = Detector.fit(features, labels, weight)
    head = torch.nn.Linear(D, K, bias=False)
    head.weight.data = weight.float()
    nci = ood.NCI(None, head, alpha=0.01).fit_features(features)
    mahalanobis = ood.Mahalanobis(None).fit_features(features.float(), labels)
    theirs = {
        "max_logit": lambda h, z: ood.MaxLogit.score(z),
        "energy": lambda h, z: ood.EnergyBased.score(z),
        "nci": lambda h, z: nci.predict_features(h.float()),
        "mahalanobis": lambda h, z: 2 * len(features) * mahalanobis.predict_features(h.float()),
    }
    truth = torch.cat([torch.zeros(90), -torch.ones(70)]).long()
    own, other = (detector.scores(one[0], one[3], 0.01) for one in (inside, outside))
    for name, score in theirs.items():
        found = torch.cat([score(inside[0], inside[3]), score(outside[0], outside[3])]).double()
        torch.testing.assert_close(-found, torch.cat([own[name], other[name]]), rtol=1e-4, atol=1e-4)
        assert float(functional.auroc(found, truth)) == pytest.approx(auroc(own[name], other[name]), abs=2e-3)
        swapped = float(functional.fpr_at_tpr(-found, -1 - truth, 0.95))
        assert swapped == pytest.approx(false_positive_rate(own[name], other[name]), abs=0.02)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: auroc(torch.zeros(0), torch.zeros(1)), r"inside: expected floats \(N,\) with N >= 1"),
        (lambda: auroc(torch.zeros(1), torch.tensor([math.nan])), "outside must not be nan, got nan at index 0"),
        (lambda: false_positive_rate(torch.zeros(1), torch.zeros(1), 0), r"tpr: expected a number in \(0, 1\], got 0"),
        (lambda: nc5(torch.ones(2, 3), torch.ones(2, 4)), "features: expected 3 columns as reference_means has, got 4"),
        (lambda: Detector.fit(*draw(0)[:3], cutoff=1.0), r"cutoff: expected a number in \(0, 1\), got 1.0"),
        (lambda: Detector.fit(*draw(0)[:3], directions=7), "directions: expected at most the 6 dimensions of the feat"),
        (lambda: Detector.fit(draw(0)[0], draw(0)[1], torch.ones(4, 5)), "weight: expected 6 columns"),
        (
            lambda: Detector.fit(*draw(0)[:3]).neco(torch.ones(2, 5)),
            "features: expected 6 columns as in training, got 5",
        ),
        (lambda: Detector.fit(torch.full((4, 6), math.inf), *draw(0)[1:3]), "features must be finite, .* in row 0"),
        (lambda: Detector.fit(*draw(0)[:3]).fit_alpha(draw(0)[::3], draw(1)[::3], []), "alphas: expected at least one"),
    ],
)
def test_bad_input_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_logits_of_another_shape_are_refused_with_the_one_allowed():
    generator = torch.Generator().manual_seed(0)
    features, labels = torch.randn(12, 4, generator=generator), torch.arange(12) % 3
    weight = torch.randn(3, 4, generator=generator)
    detector, logits = Detector.fit(features, labels, weight), features @ weight.T
    for wrong in (logits[:, :2], torch.cat([logits, logits[:, :1]], 1), logits[:1], logits[:-1], logits[0]):
        for call in (
            lambda: detector.scores(features, wrong, 0.1),  # noqa: B023
            lambda: detector.nci(features, wrong, 0.1),  # noqa: B023
        ):
            with pytest.raises(ValueError, match=r"logits: expected shape \(12, 3\)"):
                call()
