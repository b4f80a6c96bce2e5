"""What the public functions take, in one table: labels of any integer type, NumPy arrays, masked classes, any scale."""

import ast
import inspect
import math
import types
from dataclasses import asdict, is_dataclass
from functools import partial

import numpy as np
import pytest
import torch

from nclens import losses
from nclens._inputs import as_integer, as_tensor, check_labels, scaled, unscaled
from nclens.metrics import (
    alignment,
    alignment_streaming,
    calibration,
    calibration_streaming,
    collapse,
    collapse_streaming,
    film,
    generalised,
    held_out,
    imbalance,
    label_noise,
    layers,
    out_of_distribution,
    ranks,
    regression,
    regression_streaming,
    regressor,
    representation,
    selective,
    translation,
)
from nclens.models import Network
from nclens.probes import gradients, sharpness, transfer

N, K, D = 12, 3, 5
GENERATOR = torch.Generator().manual_seed(0)


def normal(*shape):
    return torch.randn(*shape, generator=GENERATOR, dtype=torch.float64)


GIVEN = {
    "features": normal(N, D),
    "labels": torch.arange(N) % K,
    "weight": normal(K, D),
    "bias": normal(K),
    "logits": normal(N, K),
    "reference_means": normal(K, D),
    "subset": torch.arange(N) < 7,
    "train_counts": torch.tensor([9, 4, 2]),
    "clean_labels": torch.arange(1, N + 1) % K,
    "held_out": torch.arange(N) < 6,
    "inside": normal(N),
    "outside": normal(6),
    "probabilities": normal(N, K).softmax(dim=1),
    "teacher_logits": normal(N, K),
    "outputs": normal(N, K),
    "rows": normal(K, D),
    "values": normal(N),
    "draws": normal(N),
    "means": normal(N),
    "plane": torch.linalg.qr(normal(D, 2)).Q,
    "covariance": regression.target_covariance(normal(N, K)),
    "test_features": normal(6, D),
    "test_labels": torch.arange(6) % K,
    "classes": K,
    "confidence": normal(N).sigmoid(),
    "correct": torch.arange(N) % 4 > 0,
    "train_features": normal(7, D),
    "train_targets": normal(7, K),
}


def streamed(metric, *names):
    """A streaming metric as a function of what its `update` takes, by `update` and by `forward`."""

    def compute(**given):
        one, other = metric(given), metric(given)
        one.update(*(given[name] for name in names))
        other(*(given[name] for name in names))
        values = one.compute()
        torch.testing.assert_close(values, other.compute(), equal_nan=True)
        return values

    return compute


def network():
    torch.manual_seed(0)
    return Network(torch.nn.Linear(D, 4), 4, K).double()


def of_loss(name, **parameters):
    made = losses.LOSSES[name]
    function = made() if isinstance(made, type) else made
    return partial(function, **parameters)


def spread(**given):
    return gradients.gradient_variance(network(), given["inputs"], given["targets"], losses.ce)


def sharp(**given):
    return sharpness.network_sharpness(network(), given["inputs"], given["targets"], losses.ce)


LOSSES = {
    "ce": of_loss("ce"),
    "ls": of_loss("ls", smoothing=0.2),
    "maxsup": of_loss("maxsup", alpha=0.2),
    "logit_penalty": of_loss("logit_penalty", beta=0.1),
    "ls_regularisation": of_loss("ls_regularisation", smoothing=0.2),
    "ls_error_amplification": of_loss("ls_error_amplification", smoothing=0.2),
    "confidence_penalty": of_loss("confidence_penalty", beta=0.1),
    "focal": of_loss("focal", gamma=2.0),
    "mse": of_loss("mse"),
    "online_label_smoothing": of_loss("online_label_smoothing", soft_weight=0.4),
    "distillation": of_loss("distillation", temperature=2.0, weight=0.6),
}
SAMPLED = ("features", "labels")
LOGITS, PROBABILITIES = ("logits", "labels"), ("probabilities", "labels")
SCORED = ("confidence", "correct")
CLASSIFIER = (*SAMPLED, "weight", "bias")
REGRESSOR = ("features", "targets", "weight", "bias")
GAMMA = {"gamma": 1e-3}

#: Function -> the arguments of `GIVEN` that it is called with. Targets are labels of classifiers.
TABLE = {
    alignment.alignment_distances: (*SAMPLED, "weight"),
    alignment.sample_alignment: (*SAMPLED, "weight", "logits", "reference_means"),
    alignment_streaming.SampleAlignment: ("reference_means", "weight", *SAMPLED, "logits"),
    calibration.binary_calibration_metrics: ("confidence", "correct"),
    calibration.binary_reliability_bins: ("confidence", "correct"),
    calibration.check_pairs: ("confidence", "correct"),
    calibration.l2_calibration_error: PROBABILITIES,
    calibration.maximum_calibration_error: PROBABILITIES,
    calibration.top_class_brier_score: PROBABILITIES,
    calibration_streaming.BinaryCalibrationMetrics: ("confidence", "correct"),
    calibration_streaming.CalibrationMetrics: LOGITS,
    generalised.generalised_collapse: (*SAMPLED, "weight"),
    generalised.one_vs_rest_distance: ("rows",),
    ranks.collapse_ranks: SAMPLED,
    calibration.check_logits: LOGITS,
    calibration.reliability_bins: PROBABILITIES,
    calibration.expected_calibration_error: PROBABILITIES,
    calibration.adaptive_calibration_error: PROBABILITIES,
    calibration.classwise_calibration_error: PROBABILITIES,
    calibration.negative_log_likelihood: LOGITS,
    calibration.brier_score: PROBABILITIES,
    calibration.calibration_metrics: LOGITS,
    calibration.fit_temperature: LOGITS,
    calibration.authors_temperature: LOGITS,
    calibration.calibration_at_temperatures: LOGITS,
    calibration.top_predictions: LOGITS,
    calibration.temperature_metrics: (*LOGITS, "held_out"),
    out_of_distribution.auroc: ("inside", "outside"),
    out_of_distribution.false_positive_rate: ("inside", "outside"),
    out_of_distribution.nc5: ("reference_means", "features"),
    selective.log_odds: ("logits",),
    selective.normalised_logit: ("logits",),
    selective.risk_coverage: SCORED,
    selective.risks: SCORED,
    selective.aurc: SCORED,
    selective.excess_aurc: SCORED,
    selective.coverage_at_risk: SCORED,
    selective.risk_at_coverage: SCORED,
    selective.fit_power: LOGITS,
    selective.selective_metrics: LOGITS,
    selective.normalised_selective_metrics: (*LOGITS, "held_out"),
    held_out.stratified_mask: ("labels",),
    held_out.divided: ("values", "labels", "held_out"),
    collapse.few_classes_collapse: (*CLASSIFIER, "reference_means"),
    collapse.neural_collapse: (*CLASSIFIER, "reference_means"),
    collapse.class_means: (*SAMPLED, "classes"),
    collapse.nc1_subset: (*SAMPLED, "classes", "subset"),
    collapse.nc1_by_correctness: ("features", *LOGITS),
    representation.angular_spread: SAMPLED,
    representation.logit_gap: LOGITS,
    representation.smoothing_parts: LOGITS,
    representation.top_logit_gradient: LOGITS,
    representation.template_plane: ("weight",),
    representation.principal_plane: ("rows",),
    representation.project: ("features", "plane"),
    representation.margin: (*SAMPLED, "weight", "bias"),
    representation.template_spread: (*SAMPLED, "weight"),
    representation.mutual_information: ("draws", "means"),
    imbalance.class_imbalance: (*SAMPLED, "logits", "weight", "train_counts"),
    imbalance.classifier_imbalance: ("weight", "train_counts"),
    imbalance.seli_grams: ("train_counts",),
    label_noise.clean_label_collapse: (*SAMPLED, "clean_labels", "logits", "weight", "bias"),
    film.balanced_sample: ("labels",),
    film.in_16_bits: ("values",),
    regression.regression_collapse: REGRESSOR,
    regression.nrc1: ("features",),
    regression.nrc2: ("features", "weight"),
    regression.nrc3: ("weight", "covariance"),
    regression.fit_gamma: ("weight", "covariance"),
    regression.target_covariance: ("targets",),
    regression.explained_variance_ratio: ("features",),
    regression.residual_deviation: ("covariance",),
    regressor.run_gamma: (),
    regressor.onehot_collapse: CLASSIFIER,
    regressor.penalised_deviation: REGRESSOR,
    regressor.gram_entries: ("weight",),
    regressor.with_onehot_targets: (),
    transfer.linear_probe: (*SAMPLED, "test_features", "test_labels"),
    gradients.gradient_variance: ("inputs", "targets"),
    layers.layer_collapse: (*SAMPLED, "classes", "reference_means"),
    layers.layer_regression: ("features", "targets", "train_features", "train_targets", "weight"),
    layers.linear_cka: ("features", "targets"),
    layers.nearest_mean_accuracy: (*SAMPLED, "reference_means"),
    layers.stable_rank: ("rows",),
    sharpness.head_sharpness: ("features", "logits"),
    sharpness.network_sharpness: ("inputs", "targets"),
    losses.squared_error: ("outputs", "targets"),
    collapse_streaming.NeuralCollapse: (*SAMPLED, "weight"),
    collapse_streaming.NearestClassMean: ("reference_means", "weight", "bias", "features"),
    regression_streaming.RegressionCollapse: REGRESSOR,
}
FURTHER = {
    held_out.stratified_mask: {"fraction": 0.5, "seed": 0},
    calibration.calibration_at_temperatures: {"temperatures": [0.5, 2.0]},
    selective.normalised_logit: {"p": 2},
    representation.top_logit_gradient: {"loss": losses.ce},
    representation.template_plane: {"classes": [0, 1, 2]},
    film.balanced_sample: {"classes": [0, 2]},
    regression.regression_collapse: GAMMA,
    regression.nrc1: {"components": 2},
    regression.nrc3: GAMMA,
    regression.explained_variance_ratio: {"components": 4},
    regression.residual_deviation: {"c": 0.5},
    regressor.onehot_collapse: GAMMA,
    regressor.penalised_deviation: {"c": 0.5},
    transfer.linear_probe: {"strengths": [1.0]},
}


def _stream_collapse(features, labels, weight):
    return streamed(lambda given: collapse_streaming.NeuralCollapse(K, D), "features", "labels", "weight")(
        features=features, labels=labels, weight=weight
    )


def _nearest(reference_means, weight, bias, features):
    metric = collapse_streaming.NearestClassMean(reference_means, weight, bias)
    metric.update(features)
    return metric.compute()


def _align(reference_means, weight, **batch):
    metric = alignment_streaming.SampleAlignment(reference_means, weight)
    metric.update(**batch)
    return metric.compute()


def _stream_regression(**given):
    return streamed(lambda _: regression_streaming.RegressionCollapse(D, K, gamma=1e-3), *REGRESSOR)(**given)


def _mapped(function, **given):
    last = {"weight": given["weight"]}
    last |= {f"{split}.targets": given[f"{split}.targets"] for split in regressor.SPLITS}
    return function(last)


CALLED = {
    alignment_streaming.SampleAlignment: _align,
    calibration_streaming.BinaryCalibrationMetrics: streamed(
        lambda _: calibration_streaming.BinaryCalibrationMetrics(), "confidence", "correct"
    ),
    calibration_streaming.CalibrationMetrics: streamed(lambda _: calibration_streaming.CalibrationMetrics(K), *LOGITS),
    collapse_streaming.NeuralCollapse: _stream_collapse,
    collapse_streaming.NearestClassMean: _nearest,
    regression_streaming.RegressionCollapse: _stream_regression,
    gradients.gradient_variance: spread,
    sharpness.network_sharpness: sharp,
    regressor.run_gamma: partial(_mapped, regressor.run_gamma),
    regressor.with_onehot_targets: partial(_mapped, regressor.with_onehot_targets),
}
REGRESSION = (regression, regression_streaming)


def arguments(function):
    """The arguments of a call: labels and targets are of the function's own kind."""
    given = {name: GIVEN[name] for name in TABLE[function] if name in GIVEN}
    own = inspect.getmodule(function)
    if "targets" in TABLE[function]:
        given["targets"] = GIVEN["labels"] if own in (gradients, sharpness) else GIVEN["outputs"]
    if "inputs" in TABLE[function]:
        given["inputs"] = GIVEN["features"]
    if not TABLE[function]:
        targets = GIVEN["labels"] if function is regressor.with_onehot_targets else GIVEN["outputs"]
        given = {"weight": GIVEN["weight"], **{f"{split}.targets": targets for split in regressor.SPLITS}}
    return given


def call(function, given):
    return CALLED.get(function, function)(**given, **FURTHER.get(function, {}))


def plain(found):
    """Any result as numbers that compare, without types of tensors."""
    if is_dataclass(found):
        found = asdict(found)
    if isinstance(found, dict):
        return {name: plain(value) for name, value in found.items()}
    if isinstance(found, tuple | list):
        return [plain(value) for value in found]
    if isinstance(found, torch.Tensor | np.ndarray):
        return np.nan_to_num(np.asarray(found.detach() if isinstance(found, torch.Tensor) else found), nan=-99).tolist()
    return -99 if isinstance(found, float) and math.isnan(found) else found


FUNCTIONS = sorted(TABLE, key=lambda function: f"{function.__module__}.{function.__qualname__}")
LABELS = ("labels", "test_labels")
LABELLED = [
    function
    for function in FUNCTIONS
    if set(LABELS) & set(TABLE[function])
    or function in (gradients.gradient_variance, sharpness.network_sharpness, regressor.with_onehot_targets)
]
INTEGERS = ["uint8", "uint16", "uint32", "uint64", "int8", "int16", "int32", "int64"]
ids = {"ids": lambda value: getattr(value, "__name__", None)}


def test_the_table_has_every_public_function_that_takes_arrays():
    modules = (
        *(alignment, calibration, collapse, film, generalised, held_out, imbalance, label_noise, layers),
        *(out_of_distribution, ranks, regression, regressor, representation, selective, gradients, sharpness, transfer),
        losses,
    )
    taking = set()
    for module in modules:
        for node in ast.parse(inspect.getsource(module)).body:
            if not isinstance(node, ast.FunctionDef) or node.name.startswith("_"):
                continue
            hints = [ast.unparse(one.annotation) for one in (*node.args.args, *node.args.kwonlyargs) if one.annotation]
            if any("Array" in hint for hint in hints):
                taking.add(getattr(module, node.name))
    helpers = {
        alignment.check_predicted,
        collapse.check_samples,
        collapse.check_finite,
        collapse.check_float64,
        collapse.check_means,
        imbalance.check_counts,
        regression.check_batch,
    }
    assert taking - helpers == {one for one in TABLE if isinstance(one, types.FunctionType)} | {
        one for one in losses.LOSSES.values() if isinstance(one, types.FunctionType)
    }
    assert set(LOSSES) | {"squared_error"} == set(losses.LOSSES)


def replaced(given, change):
    """The same arguments, each label tensor changed."""
    labels = {name for name in given if name in LABELS or given[name] is GIVEN["labels"]}
    return given | {name: change(given[name]) for name in labels}


@pytest.mark.parametrize("function", LABELLED, **ids)
def test_labels_of_every_integer_type_are_labels(function):
    given = arguments(function)
    expected = plain(call(function, given))
    for name in INTEGERS:
        as_type = replaced(given, lambda labels, name=name: labels.to(getattr(torch, name)))
        assert plain(call(function, as_type)) == expected, name
        as_array = replaced(given, lambda labels, name=name: labels.numpy().astype(name))
        assert plain(call(function, as_array)) == expected, name


@pytest.mark.parametrize("function", FUNCTIONS, **ids)
def test_numpy_arrays_are_taken_everywhere(function):
    given = arguments(function)
    arrays = {
        name: value.numpy() if isinstance(value, torch.Tensor) else np.int64(value) for name, value in given.items()
    }
    assert plain(call(function, arrays)) == plain(call(function, given))


@pytest.mark.parametrize("function", LABELLED, **ids)
def test_labels_out_of_range_and_of_other_types_are_refused(function):
    given = arguments(function)
    for wrong in (lambda labels: labels.double(), lambda labels: labels > 0, lambda labels: labels.numpy() / 1.0):
        with pytest.raises(ValueError, match="expected an integer tensor or NumPy array, got torch"):
            call(function, replaced(given, wrong))
    with pytest.raises(ValueError, match=r"expected a tensor or a NumPy array, got list"):
        call(function, replaced(given, torch.Tensor.tolist))
    with pytest.raises(ValueError, match="expected shape"):
        call(function, replaced(given, lambda labels: labels[:, None]))
    within = (held_out.stratified_mask, held_out.divided, film.balanced_sample, representation.angular_spread)
    within += (ranks.collapse_ranks,)
    unbounded = function in (*within, transfer.linear_probe)
    for value in (-1, -100) if unbounded else (7, K, -1, -100):

        def spoilt(labels, value=value):
            labels = labels.clone()
            labels[4] = value
            return labels

        allowed = "be 0 or more" if unbounded else rf"lie in \[0, {K}\)"
        with pytest.raises(ValueError, match=rf"must {allowed}, got {value} at index 4 \(1 of \d+ are out of range\)"):
            call(function, replaced(given, spoilt))


def test_template_spread_on_twelve_samples():
    torch.manual_seed(0)
    features, weight, labels = torch.randn(12, 5), torch.randn(3, 5), torch.arange(12) % 3
    assert representation.template_spread(features, labels, weight) == pytest.approx(13.222, abs=5e-4)
    labels[2], labels[5] = 7, -1
    with pytest.raises(ValueError, match=r"labels must lie in \[0, 3\), got 7 at index 2 \(2 of 12 are out of range\)"):
        representation.template_spread(features, labels, weight)


def test_the_greatest_uint64_is_named_as_it_is():
    with pytest.raises(ValueError, match=r"got 9223372036854775813 at index 1"):
        check_labels(np.array([0, 2**63 + 5], dtype=np.uint64), 3)


def test_arrays_of_any_layout_and_what_is_no_array():
    values = np.arange(6.0)
    frozen = values.copy()
    frozen.flags.writeable = False
    for array in (values[::-1], values.astype(">f8"), frozen, values.reshape(2, 3).T):
        assert as_tensor("x", array).tolist() == array.tolist()
    for wrong, words in (([1.0], "got list"), (np.array(["a"]), "expected numbers, got a NumPy array of <U1")):
        with pytest.raises(ValueError, match=words):
            as_tensor("x", wrong)
    with pytest.raises(ValueError, match="expected numbers, got a NumPy array of object"):
        as_tensor("x", np.array([None]))
    assert as_integer("n", np.uint8(3), 1) == 3
    for wrong in (True, np.bool_(True), 2.0, np.float64(2), 0, "3"):
        with pytest.raises(ValueError, match="n: expected an integer of 1 or more, got"):
            as_integer("n", wrong, 1)


@pytest.mark.parametrize(
    "take",
    [
        lambda number: collapse_streaming.NeuralCollapse(number(K), number(D)).dim,
        lambda number: regression_streaming.RegressionCollapse(number(D), number(K)).dim,
        lambda number: calibration.expected_calibration_error(GIVEN["probabilities"], GIVEN["labels"], number(7)),
        lambda number: regression.nrc1(GIVEN["features"], number(2)),
        lambda number: regression.explained_variance_ratio(GIVEN["features"], number(2)),
        lambda number: held_out.stratified_mask(GIVEN["labels"], 0.5, number(3)).tolist(),
        lambda number: representation.template_plane(GIVEN["weight"], [number(0), number(1), number(2)]).tolist(),
        lambda number: representation.template_spread(
            GIVEN["features"], GIVEN["labels"], GIVEN["weight"], [number(0), number(2)]
        ),
        lambda number: transfer.linear_probe(
            *(GIVEN[name] for name in TABLE[transfer.linear_probe]), strengths=[1.0], seed=number(3)
        ),
        lambda number: gradients.gradient_variance(
            network(), GIVEN["features"], GIVEN["labels"], losses.ce, chunk=number(3)
        ),
    ],
)
def test_numpy_integers_are_integers(take):
    assert take(np.int64) == take(np.uint8) == take(int)


def _detector():
    return out_of_distribution.Detector.fit(*(GIVEN[name] for name in ("features", "labels", "weight")))


def _probe(**options):
    return transfer.linear_probe(
        *(GIVEN[name] for name in TABLE[transfer.linear_probe]), **{"strengths": [1.0], **options}
    )


SAMPLES = (GIVEN["features"], GIVEN["labels"])
#: Name of an argument that is a number -> functions of it.
NUMBERS = {
    "alpha": [lambda v: _detector().nci(GIVEN["features"], GIVEN["logits"], v)],
    "bins": [lambda v: calibration.expected_calibration_error(GIVEN["probabilities"], GIVEN["labels"], v)],
    "classes": [
        lambda v: collapse.class_means(*SAMPLES, v),
        lambda v: collapse.nc1_subset(*SAMPLES, v, GIVEN["subset"]),
        lambda v: layers.layer_collapse(*SAMPLES, v),
        lambda v: generalised.one_vs_rest_optimum(v, 3),
        lambda v: collapse_streaming.NeuralCollapse(v, 3),
        lambda v: calibration_streaming.CalibrationMetrics(v),
        lambda v: film.balanced_sample(GIVEN["labels"], [0, v]),
        lambda v: representation.template_plane(GIVEN["weight"], [0, 2, v]),
        lambda v: representation.template_spread(*SAMPLES, GIVEN["weight"], [0, v]),
    ],
    "components": [lambda v: regression.nrc1(GIVEN["features"], v)],
    "count": [lambda v: film.balanced_sample(GIVEN["labels"], [0, 2], v)],
    "coverage": [lambda v: selective.risk_at_coverage(GIVEN["confidence"], GIVEN["correct"], v)],
    "cutoff": [lambda v: out_of_distribution.Detector.fit(*SAMPLES, GIVEN["weight"], cutoff=v)],
    "fraction": [lambda v: held_out.stratified_mask(GIVEN["labels"], v, 0), lambda v: _probe(held_out=v)],
    "p": [lambda v: selective.normalised_logit(GIVEN["logits"], v)],
    "powers": [lambda v: selective.fit_power(GIVEN["logits"], GIVEN["labels"], [v])],
    "risk": [lambda v: selective.coverage_at_risk(GIVEN["confidence"], GIVEN["correct"], v)],
    "samples": [lambda v: translation.paired_bootstrap(["a"], ["a"], ["a"], v)],
    "seed": [
        lambda v: held_out.stratified_mask(GIVEN["labels"], 0.5, v),
        lambda v: film.balanced_sample(GIVEN["labels"], [0, 2], seed=v),
        lambda v: sharpness.head_sharpness(GIVEN["features"], GIVEN["logits"], seed=v),
        lambda v: sharpness.network_sharpness(network(), GIVEN["features"], GIVEN["labels"], losses.ce, seed=v),
        lambda v: translation.paired_bootstrap(["a"], ["a"], ["a"], seed=v),
        lambda v: _probe(seed=v),
    ],
    "separations": [lambda v: layers.equi_separation([v] * 6)],
    "strengths": [lambda v: _probe(strengths=[v])],
    "temperatures": [lambda v: calibration.calibration_at_temperatures(GIVEN["logits"], GIVEN["labels"], [1.0, v])],
    "tpr": [lambda v: out_of_distribution.false_positive_rate(GIVEN["inside"], GIVEN["outside"], v)],
}


@pytest.mark.parametrize("name", NUMBERS)
def test_a_number_of_another_type_is_refused_in_one_message(name):
    """True is no 1: it is an option in the wrong place."""
    for call_ in NUMBERS[name]:
        for wrong in (True, np.bool_(True), "1", None):
            with pytest.raises(
                ValueError, match=f"^{name}\\b.*({'expected' if name != 'classes' else 'expected|must'})"
            ):
                call_(wrong)


def test_an_index_to_ignore_is_an_integer_from_the_start():
    makers = (
        lambda v: collapse_streaming.NeuralCollapse(K, D, ignore_index=v),
        lambda v: collapse_streaming.NearestClassMean(GIVEN["reference_means"], GIVEN["weight"], ignore_index=v),
        lambda v: alignment_streaming.SampleAlignment(GIVEN["reference_means"], GIVEN["weight"], ignore_index=v),
        lambda v: calibration_streaming.CalibrationMetrics(K, ignore_index=v),
        lambda v: calibration_streaming.BinaryCalibrationMetrics(ignore_index=v),
        lambda v: collapse.class_means(*SAMPLES, K, ignore_index=v),
    )
    for make in makers:
        for wrong in (True, 1.0, "0"):
            with pytest.raises(ValueError, match="ignore_index: expected an integer, got"):
                make(wrong)


# Losses


@pytest.mark.parametrize("name", LOSSES)
def test_a_loss_takes_every_integer_type_and_numpy(name):
    given = [GIVEN["logits"], GIVEN["labels"], *([GIVEN["teacher_logits"]] if name == "distillation" else [])]
    expected = LOSSES[name](*given)
    for integer in INTEGERS:
        assert torch.equal(LOSSES[name](given[0], given[1].to(getattr(torch, integer)), *given[2:]), expected)
    assert torch.equal(LOSSES[name](*(one.numpy() for one in given)), expected)


@pytest.mark.parametrize("name", LOSSES)
def test_no_loss_ignores_a_label(name):
    taught = [GIVEN["teacher_logits"]] if name == "distillation" else []
    for value in (-100, -1, K, 7):
        labels = GIVEN["labels"].clone()
        labels[4] = value
        with pytest.raises(ValueError, match=rf"targets must lie in \[0, {K}\), got {value} at index 4 \(1 of 12"):
            LOSSES[name](GIVEN["logits"], labels, *taught)
        # Where values are not looked at, PyTorch's own errors are left: nothing passes in silence.
        with losses.unchecked(), pytest.raises((IndexError, RuntimeError), match=r"out of (bounds|range)"):
            LOSSES[name](GIVEN["logits"], labels, *taught)
    for value in (math.nan, math.inf):
        logits = GIVEN["logits"].clone()
        logits[3, 1] = value
        with pytest.raises(ValueError, match=rf"logits must not be nan or \+inf .*got {value} in row 3"):
            LOSSES[name](logits, GIVEN["labels"], *taught)
        with losses.unchecked():
            assert not LOSSES[name](logits, GIVEN["labels"], *taught)[3].isfinite()
    with pytest.raises(ValueError, match="logits: every class of row 3 is masked"):
        LOSSES[name](GIVEN["logits"].index_fill(0, torch.tensor([3]), -math.inf), GIVEN["labels"], *taught)


def test_values_that_are_not_finite_in_regression_and_of_a_teacher():
    for name in ("outputs", "targets"):
        given = {"outputs": GIVEN["outputs"].clone(), "targets": GIVEN["outputs"].clone()}
        given[name][5, 0] = math.inf
        with pytest.raises(ValueError, match=f"{name} must be finite, got nan or inf in row 5"):
            losses.squared_error(**given)
        with losses.unchecked():
            assert not losses.squared_error(**given)[5].isfinite()
    teacher = GIVEN["teacher_logits"].clone()
    teacher[2, 0] = math.nan
    with pytest.raises(ValueError, match=r"teacher_logits, .*, must not be nan"):
        losses.distillation(GIVEN["logits"], GIVEN["labels"], teacher)
    logits = GIVEN["logits"].clone()
    logits[2, 1:] = -math.inf
    teacher[2] = torch.tensor([-math.inf, 0.0, 0.0])
    with pytest.raises(ValueError, match=r"teacher_logits, .* every class of row 2 is masked"):
        losses.distillation(logits, torch.zeros(N, dtype=torch.int64), teacher)


@pytest.mark.parametrize("name", ["ce", "ls", "mse", "distillation"])
def test_losses_are_traced_whole_where_no_value_can_be_seen(name):
    given = [GIVEN["logits"], GIVEN["labels"], *([GIVEN["teacher_logits"]] if name == "distillation" else [])]
    torch.compiler.reset()
    compiled = torch.compile(LOSSES[name], backend="eager", fullgraph=True)
    assert torch.equal(compiled(*given), LOSSES[name](*given))
    assert LOSSES[name](*(one.to("meta") for one in given)).shape == (N,)
    given[1] = torch.full((N,), -100)
    for without_values in (compiled, torch.func.vmap(lambda *one: LOSSES[name](*(value[None] for value in one))[0])):
        with pytest.raises((IndexError, RuntimeError), match=r"out of (bounds|range)"):
            without_values(*given)


# Masked classes


def masked(values, rows, classes):
    values = values.clone()
    values[rows, classes] = -math.inf
    return values


def with_gradient(loss, logits, *rest):
    logits = logits.clone().requires_grad_()
    value = loss(logits, *rest)
    (gradient,) = torch.autograd.grad(value[value.isfinite()].sum(), logits)
    return value.detach(), gradient


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", LOSSES)
def test_a_masked_class_is_a_class_less(name, dtype):
    """Four classes, the last of which is masked, are three: value and gradient; the mask has no gradient."""
    taught = [GIVEN["teacher_logits"].to(dtype)] if name == "distillation" else []
    logits = GIVEN["logits"].to(dtype)
    value, gradient = with_gradient(LOSSES[name], logits, GIVEN["labels"], *taught)
    wide = torch.cat([logits, torch.full((N, 1), -math.inf, dtype=dtype)], dim=1)
    if taught:
        taught = [torch.cat([taught[0], torch.full((N, 1), 3.0, dtype=dtype)], dim=1)]
    loss = of_loss(name, **LOSSES[name].keywords)  # with no memory of three classes
    found, its_gradient = with_gradient(loss, wide, GIVEN["labels"], *taught)
    torch.testing.assert_close(found, value)
    torch.testing.assert_close(its_gradient[:, :K], gradient)
    assert not its_gradient[:, K].any()


@pytest.mark.parametrize("name", LOSSES)
def test_only_the_label_is_left_or_is_masked(name):
    taught = [GIVEN["teacher_logits"]] if name == "distillation" else []
    rows, labels = torch.arange(N), GIVEN["labels"]
    alone = torch.full((N, K), -math.inf, dtype=torch.float64)
    alone[rows, labels] = 1.5
    value, gradient = with_gradient(LOSSES[name], alone, labels, *taught)
    right = {"logit_penalty": 0.05 * 1.5**2, "mse": 0.5 * 0.5**2}.get(name, 0.0)  # a softmax over one class is 1
    torch.testing.assert_close(value, torch.full_like(value, right))
    assert gradient.isfinite().all()
    gone = masked(GIVEN["logits"], rows, labels)
    assert (LOSSES[name](gone, labels, *taught) == math.inf).all()
    if taught:  # whose second term knows no label
        student = losses.distillation(gone, labels, *taught, temperature=2.0, weight=1.0)
        assert student.isfinite().all()


def test_the_confidence_penalty_with_a_masked_class():
    logits = torch.tensor([[1.0, 2.0, -math.inf]], requires_grad=True)
    value = losses.confidence_penalty(logits, torch.tensor([0]), beta=0.1)
    assert value.item() == pytest.approx(1.2550, abs=5e-5)
    (gradient,) = torch.autograd.grad(value.sum(), logits)
    p = math.exp(1) / (math.exp(1) + math.exp(2))
    entropy = -p * math.log(p) - (1 - p) * math.log(1 - p)
    expected = [p - 1 + 0.1 * p * (math.log(p) + entropy), 1 - p + 0.1 * (1 - p) * (math.log(1 - p) + entropy), 0.0]
    assert gradient[0].tolist() == pytest.approx(expected, abs=1e-6)


def test_online_label_smoothing_gives_the_mass_of_masked_classes_to_the_others():
    loss = losses.online_label_smoothing()
    logits = torch.tensor([[2.0, 1.0, 0.0]], dtype=torch.float64)
    labels = torch.tensor([0])
    loss(logits.clone().requires_grad_(), labels, soft_weight=0.4)
    loss.end_epoch()
    q = logits.softmax(dim=1)[0]
    log_p = logits[0, :2].log_softmax(dim=0)
    expected = -0.6 * log_p[0] - 0.4 * (q[:2] / q[:2].sum() * log_p).sum()
    found = loss(masked(logits, 0, 2), labels, soft_weight=0.4)
    torch.testing.assert_close(found[0], expected)


# Measures of collapse need samples of every class.
UNMASKED = (
    *(calibration.check_logits, collapse.nc1_by_correctness, alignment.sample_alignment),
    *(imbalance.class_imbalance, label_noise.clean_label_collapse),
    *(alignment_streaming.SampleAlignment, calibration_streaming.CalibrationMetrics),
)


@pytest.mark.parametrize(
    "function", [one for one in FUNCTIONS if "logits" in TABLE[one] and one not in UNMASKED], **ids
)
def test_measures_of_a_masked_class_are_those_without_it(function):
    given = arguments(function)
    wide = torch.cat([given["logits"], torch.full((N, 1), -math.inf, dtype=torch.float64)], dim=1)
    expected, found = plain(call(function, given)), plain(call(function, given | {"logits": wide}))
    classwise = [name for name in expected if "classwise" in name] if isinstance(expected, dict) else []
    for name in classwise:  # a mean over K classes, one of which is right
        expected[name] *= K / (K + 1)
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-12, equal_nan=True)


def test_measures_where_a_labels_own_class_is_masked():
    logits, labels = masked(GIVEN["logits"], 3, GIVEN["labels"][3]), GIVEN["labels"]
    assert calibration.negative_log_likelihood(logits, labels) == math.inf
    metrics = calibration.calibration_metrics(logits, labels)
    assert metrics["nll"] == metrics["nll_incorrect"] == math.inf
    assert all(math.isfinite(value) for name, value in metrics.items() if name not in ("nll", "nll_incorrect"))
    with pytest.raises(
        ValueError, match=r"labels: no temperature is best, for the label 0 at index 3 has a logit of -inf"
    ):
        calibration.fit_temperature(logits, labels)
    assert representation.logit_gap(logits, labels) == -math.inf
    parts = representation.smoothing_parts(logits, labels)
    assert parts.pop("ls_error_amplification_incorrect") == -math.inf
    assert all(math.isfinite(value) for value in parts.values())
    for loss in (losses.ce, LOSSES["ls"], LOSSES["maxsup"]):
        gradient = representation.top_logit_gradient(logits, labels, loss)
        assert all(math.isfinite(value) for value in gradient.values())


def test_constant_logits_beside_a_mask_have_temperature_one():
    logits = torch.zeros(4, 3).index_fill(1, torch.tensor([2]), -math.inf)
    assert calibration.fit_temperature(logits, torch.tensor([0, 1, 0, 1])) == 1.0
    metrics = calibration.calibration_metrics(logits, torch.tensor([0, 1, 0, 1]))
    assert metrics["entropy"] == pytest.approx(math.log(2))
    assert metrics["nll"] == pytest.approx(math.log(2))


# Probabilities


@pytest.mark.parametrize("of_logits", [lambda z: z.half().softmax(1), lambda z: z.softmax(1).half()])
def test_half_precision_probabilities(of_logits):
    torch.manual_seed(0)
    p, labels = of_logits(3 * torch.randn(256, 10)), torch.zeros(256, dtype=torch.int64)
    assert (p.double().sum(dim=1) - 1).abs().max() > 2e-4
    found = calibration.expected_calibration_error(p, labels)
    assert found == pytest.approx(0.58684, abs=6e-6)
    exact = p.double() / p.double().sum(dim=1, keepdim=True)
    assert found == calibration.expected_calibration_error(exact, labels)
    for function in (calibration.brier_score, calibration.classwise_calibration_error):
        assert function(p, labels) == function(exact, labels)
    assert calibration.brier_score(p.bfloat16(), labels) == pytest.approx(
        calibration.brier_score(exact, labels), abs=0.01
    )
    with pytest.raises(ValueError, match=r"must sum to 1 \(to 0.002 in torch.float16\), got a sum of 1\.1\d* in row 1"):
        calibration.brier_score(torch.tensor([[0.5, 0.5], [0.5, 0.6]]).half(), torch.tensor([0, 0]))


def test_a_confidence_is_compared_with_an_edge_as_it_is():
    labels = torch.tensor([0])
    for dtype, index in ((torch.float32, 4), (torch.float64, 3)):  # float32(.8) > 4/5, which is float64(.8)
        p = torch.tensor([[0.8, 0.2]], dtype=dtype)
        assert calibration.reliability_bins(p, labels, bins=5).count.argmax() == index


# Scale


SCALES = [1e300, 1e-300, 1e160, 1e-160, 1e80, 1e-80]
UNITS = {
    **dict.fromkeys(("feature_norm", "feature_norm_rms"), "features"),
    **dict.fromkeys(("classifier_norm", "weight_norm_frobenius"), "weight"),
    "nc0": "weight squared",
}


@pytest.mark.parametrize("scale", SCALES)
def test_measures_without_a_unit_do_not_see_the_scale_of_features_or_weights(scale):
    features, labels, weight, bias = (GIVEN[name] for name in CLASSIFIER)
    one = collapse.neural_collapse(features, labels, weight, bias)
    for scaled_ones in (("features",), ("weight",)):
        x, w = (scale if name in scaled_ones else 1.0 for name in ("features", "weight"))
        found = collapse.neural_collapse(x * features, labels, w * weight, x * w * bias)
        factors = {"features": x, "weight": w, "weight squared": w * w}
        expected = {name: value * factors.get(UNITS.get(name), 1.0) for name, value in one.items()}
        assert found == pytest.approx(expected, rel=1e-10, abs=1e-290)
    torch.testing.assert_close(
        collapse.class_means(scale * features, labels, K) / scale, collapse.class_means(features, labels, K)
    )
    for function in (collapse.nc1_subset, representation.angular_spread, representation.template_spread):
        given = arguments(function)
        expected = plain(call(function, given))
        assert plain(call(function, given | {"features": scale * features})) == pytest.approx(expected, rel=1e-10)
    expected = representation.template_spread(features, labels, weight)
    assert representation.template_spread(features, labels, scale * weight) == pytest.approx(expected, rel=1e-10)
    plane = representation.template_plane(weight, [0, 1, 2])
    torch.testing.assert_close(representation.template_plane(scale * weight, [0, 1, 2]), plane)
    draws, means = GIVEN["draws"], GIVEN["means"]
    information = representation.mutual_information(draws, means)
    assert representation.mutual_information(scale * draws, scale * means) == pytest.approx(information, rel=1e-10)


@pytest.mark.parametrize("scale", SCALES)
def test_regression_at_any_scale(scale):
    features, targets, weight, bias = GIVEN["features"], GIVEN["outputs"], GIVEN["weight"], GIVEN["bias"]
    one = regression.regression_collapse(features, targets, weight, bias, **GAMMA)
    for x, w in ((scale, 1 / scale), (1 / scale, scale)):
        found = regression.regression_collapse(x * features, targets, w * weight, bias, **GAMMA)
        factors = {"features": x, "weight": w}
        expected = {name: value * factors.get(UNITS.get(name), 1.0) for name, value in one.items()}
        assert found == pytest.approx(expected, rel=1e-8, abs=1e-290)
    # Residuals of the features' size: what has no unit is right, and what float64 does not hold is inf.
    residual = regression.regression_collapse(scale * features, targets, weight, torch.zeros(K), **GAMMA)
    for name in ("nrc1", "nrc1_centred", "nrc2", "nrc3", "evr", "evr_1"):
        assert residual[name] == pytest.approx(one[name], rel=1e-8), name
    predicted = regression.target_covariance(features @ weight.T)
    level = predicted.trace() / K
    if scale > 1e100:
        assert (residual["mse"], residual["r2"]) == (math.inf, -math.inf)
        assert residual["residual_anisotropy"] == pytest.approx(
            float((predicted - level * torch.eye(K)).norm() / (level * math.sqrt(K))), rel=1e-8
        )
    assert regression.nrc1(scale * features, 2) == pytest.approx(regression.nrc1(features, 2), rel=1e-8)
    assert regression.nrc2(scale * features, scale * weight) == pytest.approx(
        regression.nrc2(features, weight), rel=1e-8
    )
    assert regression.explained_variance_ratio(scale * features, 3) == pytest.approx(
        regression.explained_variance_ratio(features, 3), rel=1e-8
    )
    assert regression.residual_deviation(scale * GIVEN["covariance"], scale) == pytest.approx(
        regression.residual_deviation(GIVEN["covariance"], 1.0), rel=1e-8
    )
    gamma = regression.fit_gamma(weight, GIVEN["covariance"])
    assert regression.fit_gamma(scale * weight, GIVEN["covariance"]) == pytest.approx(gamma, rel=1e-6)
    for call_ in (regression.target_covariance, lambda y: regression.regression_collapse(features, y, weight, bias)):
        if not 1e-100 < scale < 1e100:
            with pytest.raises(ValueError, match=r"targets: the largest value must be 0 or lie in \[4e-121, 3e\+120\]"):
                call_(scale * targets)


@pytest.mark.parametrize("scale", [1e-300, 1e300])
def test_the_linear_probe_at_any_scale(scale):
    given = arguments(transfer.linear_probe)
    expected = call(transfer.linear_probe, given)
    moved = {name: scale * value if "features" in name else value for name, value in given.items()}
    assert call(transfer.linear_probe, moved) == expected


@pytest.mark.parametrize("scale", SCALES)
def test_streaming_measures_are_right_or_refuse(scale):
    features, labels, weight, bias = (GIVEN[name] for name in CLASSIFIER)
    batches = {
        collapse_streaming.NeuralCollapse: (scale * features, labels, weight),
        regression_streaming.RegressionCollapse: (scale * features, GIVEN["outputs"], weight / scale, bias),
    }
    metrics = (collapse_streaming.NeuralCollapse(K, D), regression_streaming.RegressionCollapse(D, K, **GAMMA))
    whole = (collapse.neural_collapse, partial(regression.regression_collapse, **GAMMA))
    for metric, function in zip(metrics, whole, strict=True):
        batch = batches[type(metric)]
        if not 1e-121 < scale < 1e120:
            with pytest.raises(
                ValueError, match=r"features: the largest value must be 0 or lie in \[4e-121, 3e\+120\]"
            ):
                metric.update(*batch)
            continue
        metric.update(*(value[:7] if len(value) == N else value for value in batch))
        metric.update(*(value[7:] if len(value) == N else value for value in batch))
        expected = function(*batch, *([None] if len(batch) == 3 else []))
        expected.pop("nc4", None)
        found = {name: value.item() for name, value in metric.compute().items()}
        assert found == pytest.approx(expected, rel=1e-8)
    nearest = collapse_streaming.NearestClassMean(scale * GIVEN["reference_means"], weight, scale * bias)
    nearest.update(scale * features)
    one = collapse_streaming.NearestClassMean(GIVEN["reference_means"], weight, bias)
    one.update(features)
    assert nearest.compute() == one.compute()
    with pytest.raises(ValueError, match="the residuals of targets: the largest value must be at most"):
        metrics[1].update(1e119 * features, GIVEN["outputs"], 100 * weight, bias)


def test_norms_beyond_float64_are_refused():
    features = torch.tensor([[1.7e308] * 4, [1.7e308] * 4, [-1.7e308] * 4, [-1.7e308] * 4], dtype=torch.float64)
    with pytest.raises(ValueError, match="features: values so large that their norms exceed float64"):
        collapse.neural_collapse(features, torch.tensor([0, 0, 1, 1]), torch.eye(2, 4), None)
    assert collapse.class_means(features, torch.tensor([0, 0, 1, 1]), 2).tolist() == [[1.7e308] * 4, [-1.7e308] * 4]


def test_scaling_keeps_the_bits_of_ordinary_values():
    values = torch.tensor([0.0, 1e-50, 3.0, -1e50], dtype=torch.float64)
    assert scaled(values)[0] is values
    for one in (1e300 * torch.ones(2, dtype=torch.float64), torch.tensor([5e-324, 0.0], dtype=torch.float64)):
        small, exponent = scaled(one)
        assert exponent
        assert torch.equal(unscaled(small, exponent), one)
    for left in (torch.tensor([math.nan, 1e300]).double(), torch.zeros(3).double(), torch.zeros(0).double()):
        assert scaled(left) == (left, 0) or scaled(left)[1] == 0


@pytest.mark.parametrize(
    ("function", "name"),
    [
        (alignment.sample_alignment, "features"),
        (held_out.divided, "values"),
        (imbalance.class_imbalance, "weight"),
        (label_noise.clean_label_collapse, "features"),
        (label_noise.clean_label_collapse, "weight"),
        (regressor.gram_entries, "weight"),
        (layers.layer_collapse, "reference_means"),
        (layers.nearest_mean_accuracy, "reference_means"),
        (layers.stable_rank, "rows"),
    ],
)
def test_a_number_in_place_of_rows_is_refused_in_one_message(function, name):
    given = {one: GIVEN[one] for one in TABLE[function]} | {name: torch.tensor(1.0)}
    with pytest.raises(ValueError, match=f"^{name}: expected"):
        function(**given)


def test_logits_that_are_no_floats_and_values_that_are_not_finite_are_refused():
    given = arguments(imbalance.class_imbalance)
    with pytest.raises(ValueError, match="logits must be a float tensor"):
        imbalance.class_imbalance(**given | {"logits": GIVEN["logits"] > 0})
    with pytest.raises(ValueError, match=r"logits must not be nan or \+inf"):
        imbalance.class_imbalance(**given | {"logits": GIVEN["logits"] * math.nan})
    given = arguments(layers.nearest_mean_accuracy)
    with pytest.raises(ValueError, match="features: every value must be finite"):
        layers.nearest_mean_accuracy(**given | {"features": GIVEN["features"] * math.nan})


def test_rows_that_are_none_or_one_too_many_are_refused():
    given = {name: GIVEN[name] for name in ("features", "labels", "classes")}
    with pytest.raises(ValueError, match="reference_means: expected 3 rows, one a class, got 4"):
        layers.layer_collapse(**given, reference_means=normal(K + 1, D))
    for empty in (normal(0, D), normal(3, 0)):
        with pytest.raises(ValueError, match="rows: expected at least one row and one column"):
            layers.stable_rank(empty)
