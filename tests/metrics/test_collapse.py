"""Neural collapse against hand-computed numbers, exact frames, a literal float64 reference and its invariances."""

import itertools
import math
import warnings
from fractions import Fraction

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from nclens.metrics import catalogue, collapse
from nclens.metrics.collapse import KEYS, class_means, nc1_subset, neural_collapse

ETF_KEYS = ("nc2_means", "nc2_classifier", "nc2", "nc3", "equinorm_means", "equinorm_classifier")


def draw(classes=4, dim=6, per_class=7, seed=0, spread=0.5):
    """Features, labels (in no order, classes of unequal size), weight and bias, float64."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.cat([torch.full((per_class + k % 3,), k) for k in range(classes)])
    labels = labels[torch.randperm(len(labels), generator=generator)]
    centres = torch.randn(classes, dim, generator=generator, dtype=torch.float64)
    noise = torch.randn(len(labels), dim, generator=generator, dtype=torch.float64)
    weight = torch.randn(classes, dim, generator=generator, dtype=torch.float64)
    bias = torch.randn(classes, generator=generator, dtype=torch.float64)
    return centres[labels] + spread * noise, labels, weight, bias


def simplex(classes, dim, seed=0):
    """A simplex equiangular tight frame: K rows in d >= K-1 dimensions, in a random orientation."""
    basis = torch.linalg.svd(torch.eye(classes, dtype=torch.float64) - 1 / classes).U[:, : classes - 1]
    generator = torch.Generator().manual_seed(seed)
    rotation = torch.linalg.qr(torch.randn(dim, dim, generator=generator, dtype=torch.float64)).Q
    return basis @ rotation[: classes - 1]


def literal(features, labels, weight, bias, reference_means=None):
    """The formulas as they are written, sample by sample, with a d x d scatter and a pseudo-inverse."""
    h, w = features.double(), weight.double()
    classes, dim = w.shape
    total = len(h)
    hbar = torch.stack([h[labels == k].mean(0) for k in range(classes)])
    m = hbar - hbar.mean(0)
    s_w, s_b = torch.zeros(dim, dim).double(), torch.zeros(dim, dim).double()
    for sample, k in zip(h, labels, strict=True):
        s_w += torch.outer(sample - hbar[k], sample - hbar[k]) / total
    for row in m:
        s_b += torch.outer(row, row) / classes
    etf = (torch.eye(classes).double() - torch.ones(classes, classes).double() / classes) / math.sqrt(classes - 1)
    v = [(h[labels == k] - hbar[k]).square().sum(1).mean() for k in range(classes)]
    pairs = list(itertools.combinations(range(classes), 2))

    def unit(a):
        return a / a.norm()

    def angles(a):
        return sum(abs(torch.dot(unit(a[k]), unit(a[j])) + 1 / (classes - 1)) for k, j in pairs) / len(pairs)

    def equinorm(a):
        norms = torch.stack([row.norm() for row in a])
        return (norms - norms.mean()).square().mean().sqrt() / norms.mean()

    reference = hbar if reference_means is None else reference_means
    bias = torch.zeros(classes) if bias is None else bias
    wrong = 0
    for sample in h:
        nearest = min(range(classes), key=lambda k: float((sample - reference[k]).norm()))
        wrong += int(torch.argmax(w @ sample + bias.double())) != nearest
    nc1 = torch.trace(s_w @ torch.linalg.pinv(s_b, hermitian=True, rtol=1e-10)) / classes
    nc3 = (unit(w) - unit(m)).norm()
    nc0 = sum(sum(w[k, j] for k in range(classes)) ** 2 for j in range(dim)) / classes
    values = {
        "nc0": nc0,
        "nc0_share": nc0 / sum(w[k, j] ** 2 for k in range(classes) for j in range(dim)),
        "nc1": nc1,
        "nc1_sum": nc1 * classes,
        "nc1_quotient": torch.trace(s_w) / torch.trace(s_b),
        "cdnv": sum((v[k] + v[j]) / (2 * (hbar[k] - hbar[j]).square().sum()) for k, j in pairs) / len(pairs),
        "nc2": (unit(w @ m.T) - etf).norm(),
        "nc2_means": (unit(m @ m.T) - etf).norm(),
        "nc2_classifier": (unit(w @ w.T) - etf).norm(),
        "nc3": nc3,
        "nc3_squared": nc3**2,
        "equinorm_means": equinorm(m),
        "equinorm_classifier": equinorm(w),
        "equiangular_means": angles(m),
        "equiangular_classifier": angles(w),
        "nc4": wrong / total,
        "feature_norm": sum(row.norm() for row in m) / classes,
        "classifier_norm": sum(row.norm() for row in w) / classes,
        "rank_means": torch.linalg.matrix_rank(m, rtol=1e-10),
    }
    return {key: float(value) for key, value in values.items()}


def test_hand_computed_case():
    # Means (2, 0) and (-2, 0); S_W = diag(1, 0), S_B = diag(4, 0); W = I.
    features = torch.tensor([[3.0, 0], [-1, 0], [1, 0], [-3, 0]])
    labels = torch.tensor([0, 1, 0, 1])
    values = neural_collapse(features, labels, torch.eye(2), torch.tensor([0.0, -10.0]))
    tilted = math.sqrt(2 - math.sqrt(2))  # the distance of two unit matrices with inner product 1/sqrt(2)
    expected = {
        "nc0": 1,
        "nc0_share": 0.5,
        "nc1": 0.125,
        "nc1_sum": 0.25,
        "nc1_quotient": 0.25,
        "cdnv": 0.0625,
        "nc2": tilted,
        "nc2_means": 0,
        "nc2_classifier": tilted,
        "nc3": 1,
        "nc3_squared": 1,
        "equinorm_means": 0,
        "equinorm_classifier": 0,
        "equiangular_means": 0,
        "equiangular_classifier": 1,
        "nc4": 0.5,  # the bias makes every prediction class 0, the nearest means are two of each
        "feature_norm": 2,
        "classifier_norm": 1,
        "rank_means": 1,
    }
    assert values == pytest.approx(expected, abs=1e-14)
    assert tuple(values) == KEYS
    assert all(type(value) is float for value in values.values())


@pytest.mark.parametrize("power", [-400, -90, 0, 90, 400])
def test_nc0_of_any_scale_is_that_of_the_scaled_weight(power):
    features, labels, weight, bias = draw()
    values, plain = (neural_collapse(features, labels, w, bias) for w in (math.ldexp(1.0, power) * weight, weight))
    assert values["nc0"] == math.ldexp(plain["nc0"], 2 * power)
    assert values["nc0_share"] == plain["nc0_share"]


def test_nc0_does_not_see_the_features():
    """It is 1 and 0 for rows that are equal, and for rows that sum to zero."""
    features, labels, weight, bias = draw()
    equal = neural_collapse(features, labels, weight[:1].expand(4, -1), bias)
    assert equal["nc0_share"] == pytest.approx(1, rel=1e-14)
    assert equal["nc0"] == pytest.approx(4 * float(weight[0].square().sum()), rel=1e-14)
    assert neural_collapse(features, labels, weight - weight.mean(0), bias)["nc0_share"] < 1e-30
    other = neural_collapse(2 * features.flip(0), labels, weight, bias)
    assert other["nc0"] == neural_collapse(features, labels, weight, None)["nc0"]


def test_unequal_norms_and_angles_by_hand():
    # Three means on a line, -3, 1 and 2, centred already; W has row norms 1, 2 and 3, all on the positive axis.
    features = torch.tensor([[-3.0], [-3.0], [1.0], [1.0], [2.0], [2.0]])
    labels = torch.tensor([0, 0, 1, 1, 2, 2])
    values = neural_collapse(features, labels, torch.tensor([[1.0], [2.0], [3.0]]), None)
    assert values["feature_norm"] == pytest.approx(2)
    assert values["equinorm_means"] == pytest.approx(math.sqrt(2 / 3) / 2)
    assert values["equinorm_classifier"] == pytest.approx(math.sqrt(2 / 3) / 2)
    assert values["equiangular_means"] == pytest.approx((0.5 + 0.5 + 1.5) / 3)
    assert values["equiangular_classifier"] == pytest.approx(1.5)
    assert (values["rank_means"], values["nc1"], values["cdnv"]) == (1, 0, 0)


@pytest.mark.parametrize(("classes", "dim"), [(2, 1), (2, 5), (3, 2), (10, 9), (10, 40)])
def test_exact_simplex_is_full_collapse(classes, dim):
    frame = simplex(classes, dim)
    labels = torch.arange(classes).repeat(3)
    values = neural_collapse(5 * frame[labels] + 0.3, labels, 2 * frame, torch.zeros(classes))
    assert {key: values[key] for key in ETF_KEYS} == pytest.approx(dict.fromkeys(ETF_KEYS, 0), abs=1e-13)
    zero = ("nc0", "nc0_share", "nc3_squared", "equiangular_means", "equiangular_classifier", "nc1", "nc1_quotient")
    for key in (*zero, "cdnv", "nc4"):
        assert values[key] == pytest.approx(0, abs=1e-13)
    assert values["rank_means"] == classes - 1


@pytest.mark.parametrize("with_reference", [False, True])
@pytest.mark.parametrize(("classes", "dim"), [(2, 3), (5, 12), (7, 6), (4, 2), (6, 1)])
def test_agrees_with_the_literal_reference(classes, dim, with_reference):
    features, labels, weight, bias = draw(classes, dim, seed=classes)
    reference = draw(classes, dim, seed=99)[2] if with_reference else None
    values = neural_collapse(features, labels, weight, bias, reference_means=reference)
    assert values == pytest.approx(literal(features, labels, weight, bias, reference), rel=1e-9, abs=1e-12)


@settings(max_examples=25, deadline=None)
@given(
    classes=st.integers(2, 6),
    dim=st.integers(1, 8),
    per_class=st.integers(2, 6),
    spread=st.floats(1e-3, 3),
    seed=st.integers(0, 10**6),
)
def test_agrees_with_the_literal_reference_for_any_shape(classes, dim, per_class, spread, seed):
    data = draw(classes, dim, per_class, seed, spread)
    assert neural_collapse(*data) == pytest.approx(literal(*data), rel=1e-6, abs=1e-10)


@settings(max_examples=25, deadline=None)
@given(
    classes=st.integers(2, 6),
    dim=st.integers(1, 8),
    scale=st.floats(1e-3, 1e3),
    shift=st.floats(-50, 50),
    seed=st.integers(0, 10**6),
)
def test_invariant_to_rotation_translation_and_scale(classes, dim, scale, shift, seed):
    features, labels, weight, bias = draw(classes, dim, seed=seed)
    before = neural_collapse(features, labels, weight, bias)
    generator = torch.Generator().manual_seed(seed)
    rotation = torch.linalg.qr(torch.randn(dim, dim, generator=generator, dtype=torch.float64)).Q
    turned = weight @ rotation
    offset = shift * torch.ones(dim, dtype=torch.float64)
    # The bias takes the translation up, so that the network is the same function of the sample.
    moved_bias = scale * bias - turned @ offset
    after = neural_collapse(scale * features @ rotation + offset, labels, turned, moved_bias)
    assert after.pop("feature_norm") == pytest.approx(scale * before.pop("feature_norm"))
    assert after == pytest.approx(before, rel=1e-6, abs=1e-9)


def test_invariant_to_the_order_of_samples_and_classes():
    features, labels, weight, bias = draw()
    before = neural_collapse(features, labels, weight, bias)
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(1))
    assert neural_collapse(features[order], labels[order], weight, bias) == pytest.approx(before, abs=1e-12)
    renamed = torch.tensor([2, 0, 3, 1])
    inverse = renamed.argsort()
    after = neural_collapse(features, renamed[labels], weight[inverse], bias[inverse])
    assert after == pytest.approx(before, abs=1e-12)


@pytest.mark.parametrize("chunk_bytes", [1, 100, 1000, 2**30])
def test_chunks_do_not_show(monkeypatch, chunk_bytes):
    data = draw(per_class=40)
    subset = torch.arange(len(data[1])) % 3 == 0
    whole, part = neural_collapse(*data), nc1_subset(*data[:2], 4, subset)
    monkeypatch.setattr(collapse, "_CHUNK_BYTES", chunk_bytes)
    assert neural_collapse(*data) == pytest.approx(whole, rel=1e-12, abs=1e-14)
    assert nc1_subset(*data[:2], 4, subset) == pytest.approx(part, rel=1e-12)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_any_floating_dtype_is_measured_in_float64(dtype):
    data = [t.to(dtype) if t.is_floating_point() else t for t in draw()]
    assert neural_collapse(*data) == neural_collapse(*(t.double() if t.is_floating_point() else t for t in data))


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int16, torch.int32])
def test_any_integer_labels(dtype):
    features, labels, weight, bias = draw()
    expected = neural_collapse(features, labels, weight, bias)
    assert neural_collapse(features, labels.to(dtype), weight, bias) == expected


def test_small_collapse_under_a_large_offset_in_float32():
    # Two classes on a line of dim 3, 1 apart, 1,000 away from the origin; scatter 2^-14: NC1 of about 1e-10 .. 1e-8.
    step = 2.0**-14
    offsets = torch.tensor([[0.0, 0, 0], [1, 0, 2], [2, 1, 0], [1, 3, 1]]) * step
    features = torch.cat([1000 + offsets, 1001 + offsets.flip(0)]).float()
    labels = torch.tensor([0] * 4 + [1] * 4)

    exact = [[Fraction(x) for x in row] for row in features.tolist()]
    means = [[sum(column) / 4 for column in zip(*exact[k : k + 4], strict=True)] for k in (0, 4)]
    half = [(a - b) / 2 for a, b in zip(*means, strict=True)]
    square = sum(x * x for x in half)
    residuals = [[x - c for x, c in zip(row, means[i // 4], strict=True)] for i, row in enumerate(exact)]
    along = sum(sum(x * c for x, c in zip(r, half, strict=True)) ** 2 for r in residuals)
    # S_B = half half', so tr(S_W pinv(S_B)) / 2 = sum (r . half)^2 / (2 N |half|^4).
    nc1 = along / (2 * 8 * square**2)
    quotient = sum(x * x for r in residuals for x in r) / 8 / square

    values = neural_collapse(features, labels, torch.randn(2, 3), None)
    assert 1e-10 < nc1 < 1e-8
    assert values["nc1"] == pytest.approx(float(nc1), rel=1e-8)
    assert values["nc1_quotient"] == pytest.approx(float(quotient), rel=1e-8)


@pytest.mark.parametrize("value", [0.0, 0.1, -1e3])
def test_total_collapse_is_infinite_nc1_with_a_warning(value):
    features = torch.full((12, 5), value)
    labels = torch.arange(12) % 3
    with pytest.warns(RuntimeWarning, match="means coincide"):
        values = neural_collapse(features, labels, torch.eye(3, 5), None)
    assert all(values[key] == math.inf for key in ("nc1", "nc1_sum", "nc1_quotient", "cdnv"))
    undefined = ("nc2", "nc2_means", "nc3", "nc3_squared", "equinorm_means", "equiangular_means", "nc4")
    assert all(math.isnan(values[key]) for key in undefined)
    assert (values["feature_norm"], values["rank_means"]) == (0, 0)
    assert values["equiangular_classifier"] == pytest.approx(0.5)
    with pytest.warns(RuntimeWarning, match="means coincide"):
        assert nc1_subset(features, labels, 3, labels == 0) == math.inf


def test_scatter_about_coinciding_means_is_infinite_nc1():
    features = torch.tensor([[1.0], [-1.0], [1.0], [-1.0]])
    with pytest.warns(RuntimeWarning, match="means coincide"):
        values = neural_collapse(features, torch.tensor([0, 0, 1, 1]), torch.eye(2, 1), None)
    assert (values["nc1"], values["nc1_quotient"], values["cdnv"]) == (math.inf, math.inf, math.inf)


def test_zero_weight_is_nan_with_a_warning():
    features, labels, weight, bias = draw()
    expected = neural_collapse(features, labels, weight, bias)
    with pytest.warns(RuntimeWarning, match="weight is zero"):
        values = neural_collapse(features, labels, 0 * weight, bias)
    undefined = ("nc2", "nc2_classifier", "nc3", "nc3_squared", "equinorm_classifier", "equiangular_classifier")
    assert all(math.isnan(values[key]) for key in (*undefined, "nc0_share"))
    assert values["classifier_norm"] == values["nc0"] == 0
    for key in ("nc1", "nc2_means", "equinorm_means", "cdnv"):
        assert values[key] == expected[key]


def test_collapsed_classes_have_exactly_zero_nc1():
    features, labels, weight, bias = draw()
    values = neural_collapse(features[:4][labels].float(), labels, weight.float(), bias.float())
    assert [values[key] for key in ("nc1", "nc1_quotient", "cdnv")] == [0, 0, 0]
    assert values["rank_means"] == 3


def test_rank_deficient_means_use_the_span_that_is_there():
    features, labels, weight, bias = draw(classes=5, dim=8, spread=0.1)
    directions = torch.randn(2, 8, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    residuals = features - class_means(features, labels, 5)[labels]
    means = torch.tensor([[1.0, 0], [0, 1], [2, 1], [-1, 3], [1, 1]], dtype=torch.float64) @ directions
    data = residuals + means[labels], labels, weight, bias
    values = neural_collapse(*data)
    assert values["rank_means"] == 2
    assert values == pytest.approx(literal(*data), rel=1e-9, abs=1e-12)


def test_two_coinciding_means_make_cdnv_infinite_only():
    features = torch.tensor([[1.0, 0], [3, 0], [1, 0], [3, 0], [-5, 1], [-5, 2]])
    values = neural_collapse(features, torch.tensor([0, 0, 1, 1, 2, 2]), torch.eye(3, 2) + 1, None)
    assert values["cdnv"] == math.inf
    assert values["rank_means"] == 1
    assert math.isfinite(values["nc1"])


def test_a_class_at_the_centre_has_no_angle():
    features = torch.tensor([[-1.0], [-1], [0], [0], [1], [1]])
    values = neural_collapse(features, torch.tensor([0, 0, 1, 1, 2, 2]), torch.ones(3, 1), None)
    assert math.isnan(values["equiangular_means"])
    assert values["equiangular_classifier"] == pytest.approx(1.5)


def test_nc4_uses_bias_and_reference_means():
    features = torch.tensor([[1.0], [2], [-1], [-2]])
    labels = torch.tensor([0, 0, 1, 1])
    weight = torch.tensor([[1.0], [-1.0]])

    def nc4(bias, reference=None):
        bias = torch.tensor(bias)
        return neural_collapse(features, labels, weight, bias, reference_means=reference)["nc4"]

    assert nc4([0.0, 0.0]) == 0
    assert nc4([0.0, 3.0]) == 0.25  # 2 h > 3 only for h = 2
    assert nc4([0.0, 0.0], torch.tensor([[10.0], [-7.0]])) == 0.25  # the border is at 1.5: h = 1 goes to class 1
    assert math.isnan(nc4([0.0, 0.0], torch.ones(2, 1)))


def test_nc4_does_not_lose_small_distances_under_an_offset():
    features, labels, weight, bias = draw(spread=1.0)
    expected = neural_collapse(features, labels, weight, bias)["nc4"]
    assert 0 < expected < 1
    offset = 1e6
    moved = neural_collapse(features + offset, labels, weight, bias - offset * weight.sum(1))
    assert moved["nc4"] == expected


def test_class_means_of_one_sample_and_of_many():
    features = torch.tensor([[1.0, 2], [3, 4], [5, 9]], dtype=torch.float16)
    means = class_means(features, torch.tensor([1, 0, 0]), 2)
    assert means.dtype == torch.float64
    assert means.tolist() == [[4, 6.5], [1, 2]]


def test_class_means_are_exact_for_equal_samples():
    features = torch.full((7, 3), 0.1)
    assert torch.equal(class_means(features, torch.arange(7) % 2, 2), features[:2].double())


def test_nc1_subset_is_the_literal_restricted_scatter():
    features, labels, weight, bias = draw()
    subset = torch.rand(len(labels), generator=torch.Generator().manual_seed(5)) < 0.4
    means = torch.stack([features[labels == k].mean(0) for k in range(4)])
    residuals = (features - means[labels])[subset]
    scatter = residuals.T @ residuals / int(subset.sum())
    between = (means - means.mean(0)).T @ (means - means.mean(0)) / 4
    expected = float(torch.trace(scatter @ torch.linalg.pinv(between, rtol=1e-10))) / 4
    assert nc1_subset(features, labels, 4, subset) == pytest.approx(expected, rel=1e-9)
    nc1 = neural_collapse(features, labels, weight, bias)["nc1"]
    share = float(subset.double().mean())
    parts = [nc1_subset(features, labels, 4, part) for part in (subset, ~subset)]
    assert share * parts[0] + (1 - share) * parts[1] == pytest.approx(nc1, rel=1e-12)
    assert nc1_subset(features, labels, 4, torch.ones_like(subset)) == pytest.approx(nc1, rel=1e-12)


def test_nc1_of_no_sample_is_nan():
    features, labels, *_ = draw()
    assert math.isnan(nc1_subset(features, labels, 4, torch.zeros_like(labels, dtype=torch.bool)))


@pytest.mark.parametrize("layout", ["transposed", "strided", "expanded"])
def test_inputs_are_left_alone_whatever_their_layout(layout):
    features, labels, weight, bias = draw()
    expected = neural_collapse(features, labels, weight, bias)
    if layout == "transposed":
        given_features = features.T.contiguous().T
    elif layout == "strided":
        given_features = torch.repeat_interleave(features, 2, dim=1)[:, ::2]
    else:
        given_features = features.unsqueeze(0).expand(1, *features.shape)[0]
    copy = given_features.clone()
    parameter = weight.clone().requires_grad_()
    assert neural_collapse(given_features.requires_grad_(), labels, parameter, bias) == pytest.approx(expected)
    assert torch.equal(given_features, copy)


def test_autocast_does_not_lower_the_precision():
    data = [t.float() if t.is_floating_point() else t for t in draw()]
    expected = neural_collapse(*data)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert neural_collapse(*data) == expected


@pytest.mark.lengthy
def test_calls_from_compiled_code():
    features, labels, weight, bias = draw()
    subset = labels > 1

    @torch.compile(backend="eager")
    def step(x):
        x = 2 * x
        values = neural_collapse(x, labels, weight, bias)
        return values, nc1_subset(x, labels, 4, subset), class_means(x, labels, 4), x + 1

    values, nc1, means, rest = step(features)
    assert values == neural_collapse(2 * features, labels, weight, bias)
    assert nc1 == pytest.approx(nc1_subset(2 * features, labels, 4, subset), rel=1e-12)
    assert torch.equal(means, class_means(2 * features, labels, 4))
    assert torch.equal(rest, 2 * features + 1)
    with pytest.raises(ValueError, match="labels"):
        torch.compile(neural_collapse, backend="eager")(features, labels + 1, weight, bias)


@pytest.mark.cuda
def test_cuda_agrees_with_the_cpu():
    data = draw(classes=10, dim=64, per_class=50)
    expected = neural_collapse(*data)
    assert neural_collapse(*(t.cuda() for t in data)) == pytest.approx(expected, rel=1e-9, abs=1e-12)
    means = class_means(data[0].cuda(), data[1].cuda(), 10)
    assert means.is_cuda
    with pytest.raises(ValueError, match="labels: expected on the device cuda"):
        neural_collapse(data[0].cuda(), *data[1:])


def spoil(tensor, index, value):
    spoilt = tensor.clone()
    spoilt[index] = value
    return spoilt


FEATURES, LABELS, WEIGHT, BIAS = draw()
GOOD = {"features": FEATURES, "labels": LABELS, "weight": WEIGHT, "bias": BIAS, "reference_means": None}


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"features": FEATURES.tolist()}, "features: expected a tensor or a NumPy array, got list"),
        ({"features": FEATURES.long()}, "features: expected a floating-point tensor of shape .* got torch.int64"),
        ({"features": FEATURES[:, 0]}, "features: expected a floating-point tensor of shape"),
        ({"features": FEATURES[:, :0], "weight": WEIGHT[:, :0]}, "features: expected at least one column"),
        ({"features": FEATURES[:-1]}, "labels: expected shape"),
        ({"features": FEATURES[:0], "labels": LABELS[:0]}, "labels: class 0 has 0 sample"),
        ({"features": spoil(FEATURES, (5, 2), math.nan)}, "features: every value must be finite.* row 5"),
        ({"features": spoil(FEATURES, (9, 0), math.inf)}, "features: every value must be finite.* row 9"),
        ({"features": spoil(FEATURES, (0, 0), -math.inf)}, "features: every value must be finite.* row 0"),
        ({"features": spoil(FEATURES, slice(None), 1.5e308)}, None),
        ({"features": FEATURES.sign() * 1.5e308}, "features: values so large"),
        ({"labels": LABELS.double()}, "labels: expected an integer tensor or NumPy array, got torch.float64"),
        ({"labels": LABELS > 1}, "labels: expected an integer tensor or NumPy array, got torch.bool"),
        ({"labels": LABELS.tolist()}, "labels: expected a tensor or a NumPy array, got list"),
        ({"labels": LABELS[:, None]}, "labels: expected shape"),
        ({"labels": LABELS - 1}, r"labels must lie in \[0, 4\), got -1 at index 3 \(7 of 31 are out of range\)"),
        ({"labels": LABELS + 1}, r"labels must lie in \[0, 4\), got 4"),
        ({"labels": LABELS.clamp(max=2)}, "labels: class 3 has 0 sample"),
        ({"weight": WEIGHT[:, 1:]}, "weight: expected a floating-point tensor of shape"),
        ({"weight": WEIGHT[:1], "labels": 0 * LABELS, "bias": None}, "classes .*expected an integer of 2 or more"),
        ({"weight": spoil(WEIGHT, (0, 0), math.nan)}, "weight: every value must be finite"),
        ({"bias": BIAS[1:]}, "bias: expected a floating-point tensor of shape"),
        ({"bias": spoil(BIAS, 0, math.inf)}, "bias: every value must be finite"),
        ({"reference_means": WEIGHT[1:]}, "reference_means: expected a floating-point tensor of shape"),
        ({"reference_means": spoil(WEIGHT, (1, 1), math.nan)}, "reference_means: every value must be finite"),
        ({"weight": WEIGHT.to("meta")}, "weight: expected on the device cpu, got meta"),
    ],
)
def test_bad_input_is_a_clear_value_error(changed, message):
    if message is None:
        with pytest.warns(RuntimeWarning, match="means coincide"):
            neural_collapse(**(GOOD | changed))
        return
    with pytest.raises(ValueError, match=message):
        neural_collapse(**(GOOD | changed))


def test_a_class_with_a_single_sample_takes_away_what_needs_its_scatter_alone():
    features, labels = FEATURES[:5], torch.tensor([0, 0, 1, 2, 3])
    with pytest.warns(RuntimeWarning, match="class 1 has a single sample and no scatter: nc1, nc1_sum, nc1_quotient"):
        values = neural_collapse(features, labels, WEIGHT, BIAS)
    assert [key for key in KEYS if math.isnan(values[key])] == ["nc1", "nc1_sum", "nc1_quotient", "cdnv"]
    means = class_means(features, labels, 4)
    twice = neural_collapse(means.repeat(2, 1), torch.arange(8) % 4, WEIGHT, BIAS)  # two samples a class, each its mean
    rest = [key for key in KEYS if not math.isnan(values[key]) and key != "nc4"]
    assert [values[key] for key in rest] == pytest.approx([twice[key] for key in rest], rel=1e-12)
    assert math.isnan(nc1_subset(features, labels, 4, torch.ones(5, dtype=torch.bool)))


@pytest.mark.parametrize("subset", [LABELS, [True], torch.ones(3, dtype=torch.bool)])
def test_bad_subset(subset):
    with pytest.raises(ValueError, match=r"subset: expected a (bool tensor|tensor or a NumPy array)"):
        nc1_subset(FEATURES, LABELS, 4, subset)


@pytest.mark.parametrize("classes", [1, 2.0, True])
def test_bad_number_of_classes(classes):
    with pytest.raises(ValueError, match="expected an integer of 2 or more"):
        class_means(FEATURES, LABELS * 0, classes)


# Classes and samples that are left out


def few(seed=0):
    """Seven classes, of which the second has no sample, the fourth one and the last two; every fifth label is -100."""
    features, labels, weight, bias = draw(classes=7, per_class=9, seed=seed)
    order = torch.arange(len(labels))
    for k, left in ((1, 0), (3, 1), (6, 2)):
        order = order[(labels[order] != k) | (torch.cumsum(labels[order] == k, 0) <= left)]
    features, labels = features[order], labels[order]
    ignored = torch.arange(len(labels)) % 5 == 0
    ignored &= ~torch.isin(labels, torch.tensor([3, 6]))
    return features, labels.masked_fill(ignored, -100), weight, bias


@pytest.mark.parametrize(("min_samples", "measured"), [(2, [0, 2, 4, 5, 6]), (3, [0, 2, 4, 5])])
def test_left_out_classes_are_as_if_they_had_never_been(min_samples, measured):
    features, labels, weight, bias = few()
    values = neural_collapse(features, labels, weight, bias, ignore_index=-100, min_samples=min_samples)
    assert tuple(values) == (*KEYS, "classes_measured")
    assert values["classes_measured"] == len(measured)
    kept = torch.isin(labels, torch.tensor(measured))
    x, y = features[kept], torch.tensor([measured.index(k) for k in labels[kept].tolist()])
    alone = neural_collapse(x, y, weight[measured], bias[measured])
    expected = literal(x, y, weight[measured], bias[measured])
    # Of W's rows all count, also those of classes that are left out.
    whole = {"nc0": float(weight.sum(0).square().sum()) / 7}
    whole["nc0_share"] = whole["nc0"] / float(weight.square().sum())
    assert {key: values[key] for key in whole} == pytest.approx(whole, rel=1e-14)
    for key in KEYS:
        if key not in ("nc4", *whole):
            assert values[key] == alone[key], key
            assert values[key] == pytest.approx(expected[key], rel=1e-9, abs=1e-12), key
    # nc4 by its words: the argmax is over all logits, the nearest mean among those that are there.
    means = {k: x[y == place].mean(0) for place, k in enumerate(measured)}
    nearest = torch.tensor([min(means, key=lambda k, h=h: float((h - means[k]).norm())) for h in x])
    predicted = (x @ weight.T + bias).argmax(1)
    assert values["nc4"] == float((nearest != predicted).double().mean())
    assert set(predicted.tolist()) - set(measured), "a class that is left out is predicted, which counts"


def test_reference_means_may_lack_classes_and_have_more():
    features, labels, weight, bias = few()
    options = {"ignore_index": -100, "min_samples": 3}
    own = class_means(features, labels, 7, **options)
    assert own.isnan().all(1).tolist() == [False, True, False, True, False, False, True]
    whole = neural_collapse(features, labels, weight, bias, **options)
    assert neural_collapse(features, labels, weight, bias, reference_means=own, **options) == whole
    means = class_means(*draw(classes=7, seed=4)[:2], 7)  # of another split, which lacks no class
    values = neural_collapse(features, labels, weight, bias, reference_means=means, **options)
    counted = labels >= 0
    nearest = torch.cdist(features[counted], means).argmin(1)
    assert values["nc4"] == float((nearest != (features[counted] @ weight.T + bias).argmax(1)).double().mean())
    assert {key: value for key, value in values.items() if key != "nc4"} == {
        key: value for key, value in whole.items() if key != "nc4"
    }


def test_without_a_class_to_leave_out_nothing_changes():
    features, labels, weight, bias = draw()
    values = neural_collapse(features, labels, weight, bias)
    options = {"ignore_index": 255, "min_samples": 2}
    assert neural_collapse(features, labels, weight, bias, **options) == values | {"classes_measured": 4.0}
    assert neural_collapse(features, labels, weight, bias, ignore_index=-1) == values
    assert torch.equal(class_means(features, labels, 4, **options), class_means(features, labels, 4))


def test_ignored_samples_may_have_any_features():
    features, labels, weight, bias = draw()
    expected = neural_collapse(features, labels, weight, bias)
    more = torch.cat([torch.full((3, 6), math.nan).double(), features])
    for ignored in (-100, 255, 9):
        theirs = torch.cat([torch.full((3,), ignored), labels])
        assert neural_collapse(more, theirs, weight, bias, ignore_index=ignored) == expected
        assert torch.equal(class_means(more, theirs, 4, ignore_index=ignored), class_means(features, labels, 4))
    assert neural_collapse(
        more, torch.cat([torch.full((3,), 255), labels]).byte().numpy(), weight, bias, ignore_index=255
    )


LACKING = torch.tensor([0, 0, 0, 1, -100, -100, 1, 3])


@pytest.mark.parametrize(
    ("labels", "options", "message"),
    [
        (LACKING, {}, r"labels must lie in \[0, 4\), got -100 at index 4"),
        (LACKING, {"ignore_index": -100}, r"labels: class 2 has 0 sample\(s\), at least 1 needed"),
        (LACKING, {"ignore_index": -100, "min_samples": 1}, "min_samples: expected an integer of 2 or more, got 1"),
        (LACKING, {"ignore_index": -100, "min_samples": 2.0}, "min_samples: expected an integer of 2 or more, got 2.0"),
        (
            LACKING,
            {"ignore_index": -100, "min_samples": 3},
            r"labels: 1 of 4 classes has 3 sample\(s\) or more, at least two classes are needed",
        ),
        (LACKING * 0 - 1, {"ignore_index": -1, "min_samples": 2}, "labels: 0 of 4 classes have 2 sample"),
        (LACKING, {"ignore_index": -100.0}, "ignore_index: expected an integer, got -100.0"),
        (LACKING, {"ignore_index": 3, "min_samples": 2}, r"labels must lie in \[0, 4\), got -100 at index 4 \(2 of 8"),
    ],
)
def test_what_is_left_out_wrongly(labels, options, message):
    features, _, weight, bias = draw()
    with pytest.raises(ValueError, match=message):
        neural_collapse(features[:8], labels, weight, bias, **options)


def test_a_value_that_is_not_finite_is_found_in_its_row_whatever_is_ignored():
    features, _, weight, bias = draw()
    labels = torch.tensor([-100, 0, 0, 1, 1, 3, 3])
    with pytest.raises(ValueError, match="features: every value must be finite, found nan or inf in row 5"):
        neural_collapse(spoil(features[:7], (5, 0), math.nan), labels, weight, bias, ignore_index=-100, min_samples=2)


@pytest.mark.parametrize("rows", [[0], [0, 1, 2], [0, 1, 2, 3]])
def test_a_mean_is_all_nan_or_finite_and_two_are_needed(rows):
    features, labels, weight, bias = draw()
    means = class_means(features, labels, 4)
    means[rows] = math.nan
    options = {"reference_means": means, "min_samples": 2}
    if len(rows) == 1:
        assert neural_collapse(features, labels, weight, bias, **options)
        means[1, 1] = math.nan
        with pytest.raises(ValueError, match="reference_means: every value must be finite"):
            neural_collapse(features, labels, weight, bias, **options)
        return
    with pytest.raises(ValueError, match=f"reference_means: {4 - len(rows)} of 4 rows have numbers, at least two"):
        neural_collapse(features, labels, weight, bias, **options)


# Some of the metrics


@pytest.mark.parametrize("least", [None, 2])
def test_each_metric_alone_is_as_among_all(least):
    data = draw()
    every = neural_collapse(*data, min_samples=least)
    for key, value in every.items():
        assert neural_collapse(*data, min_samples=least, metrics=[key]) == {key: value}
    assert neural_collapse(*data, metrics=("nc4", "cdnv", "nc1")) == {key: every[key] for key in ("nc1", "cdnv", "nc4")}


def test_what_nobody_asked_for_is_not_computed(monkeypatch):
    features, labels, weight, bias = draw()
    for name in ("whitening", "count_disagreements", "pair_measures", "distance_to_etf", "_chunks"):
        monkeypatch.setattr(collapse, name, None)
    monkeypatch.setattr(collapse, "_counts_and_means", lambda *_: (labels.bincount().double(), weight))
    assert list(neural_collapse(features, labels, weight, bias, metrics=("equinorm_means",))) == ["equinorm_means"]


@pytest.mark.parametrize("key", ["nc0", "classifier_norm", "nc2_classifier"])
def test_no_warning_of_what_nobody_asked_for(key):
    """All means coincide, and one class has a single sample."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        neural_collapse(torch.ones(3, 2), torch.tensor([0, 0, 1]), torch.eye(2), None, metrics=(key,))
    with pytest.warns(RuntimeWarning, match="coincide"):
        neural_collapse(torch.ones(3, 2), torch.tensor([0, 0, 1]), torch.eye(2), None, metrics=(key, "nc3"))


@pytest.mark.parametrize(
    ("metrics", "message"),
    [
        (("nc1", "nc9"), r"metrics: no metric is named 'nc9'; expected some of nc0, .*rank_means"),
        (("classes_measured",), "metrics: no metric is named 'classes_measured'"),
        ("nc1", "metrics: expected one name or more in a tuple, got 'nc1'"),
        ((), "metrics: expected one name or more"),
        (3, "metrics: expected one name or more"),
    ],
)
def test_metrics_that_are_none(metrics, message):
    with pytest.raises(ValueError, match=message):
        neural_collapse(*draw(), metrics=metrics)


def test_metrics_are_those_of_the_catalogue():
    name = "nclens.metrics.collapse:neural_collapse"
    (found,) = [each for each in catalogue.MEASUREMENTS if each.function == name]
    assert {metric.name for metric in found.metrics} - {"classes_measured"} == set(KEYS)
