"""Losses against literal loops, their stated gradients, and the identities between them."""

import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from nclens.losses import LOSSES, Schedule, StatefulLoss, online_label_smoothing, register

PARAMETERS = {
    "ce": {},
    "ls": {"smoothing": 0.15},
    "maxsup": {"alpha": 0.15},
    "logit_penalty": {"beta": 0.02},
    "ls_regularisation": {"smoothing": 0.15},
    "ls_error_amplification": {"smoothing": 0.15},
    "confidence_penalty": {"beta": 0.3},
    "focal": {"gamma": 1.7},
    "mse": {},
    "online_label_smoothing": {"soft_weight": 0.4},
}
STRENGTHS = {name: next(iter(parameters)) for name, parameters in PARAMETERS.items() if parameters}
FUNCTIONS = [name for name in PARAMETERS if name != "online_label_smoothing"]
CLASSIFICATION = [name for name in PARAMETERS if name != "mse"]


def make(name):
    return LOSSES[name]() if isinstance(LOSSES[name], type) else LOSSES[name]


def draw(seed=0, n=12, classes=4, scale=2.0):
    generator = torch.Generator().manual_seed(seed)
    logits = scale * torch.randn(n, classes, dtype=torch.float64, generator=generator)
    return logits, torch.randint(classes, (n,), generator=generator)


def literal(name, z, y):
    """One sample's loss, written out with plain floats."""
    k = len(z)
    mean = sum(z) / k
    normaliser = math.log(sum(math.exp(v) for v in z))
    log_p = [v - normaliser for v in z]
    ce = -log_p[y]
    if name == "ls":
        return -sum((0.85 * (j == y) + 0.15 / k) * log_p[j] for j in range(k))
    if name == "maxsup":
        return ce + 0.15 * (max(z) - mean)
    if name == "logit_penalty":
        return ce + 0.01 * sum(v * v for v in z)
    if name == "ls_regularisation":
        return ce + 0.15 / k * sum(z[y] - v for v in z if v < z[y])
    if name == "ls_error_amplification":
        return ce + 0.15 / k * sum(z[y] - v for v in z if v > z[y])
    if name == "confidence_penalty":
        return ce - 0.3 * -sum(math.exp(v) * v for v in log_p)
    if name == "focal":
        return -((1 - math.exp(log_p[y])) ** 1.7) * log_p[y]
    if name == "mse":
        return sum((z[j] - (j == y)) ** 2 for j in range(k)) / 2
    if name == "online_label_smoothing":  # before the first epoch's end: uniform soft labels
        return 0.6 * ce - 0.4 * sum(v / k for v in log_p)
    return ce


def stated_gradient(name, z, y):
    """The gradient that the docstring states."""
    k = z.shape[1]
    p, onehot = z.softmax(1), F.one_hot(y, k).double()
    z_y = z.gather(1, y[:, None])
    top = F.one_hot(z.argmax(1), k).double()
    if name == "ls":
        return p - (0.85 * onehot + 0.15 / k)
    if name == "maxsup":
        return p - onehot + 0.15 * (top - 1 / k)
    if name == "logit_penalty":
        return p - onehot + 0.02 * z
    if name == "ls_regularisation":
        below = (z < z_y).double()
        return p - onehot + 0.15 / k * (onehot * below.sum(1, keepdim=True) - below)
    if name == "ls_error_amplification":
        above = (z > z_y).double()
        return p - onehot + 0.15 / k * (onehot * above.sum(1, keepdim=True) - above)
    if name == "confidence_penalty":
        entropy = -(p * p.log()).sum(1, keepdim=True)
        return p - onehot + 0.3 * p * (p.log() + entropy)
    if name == "focal":
        p_y = p.gather(1, y[:, None])
        return (p - onehot) * ((1 - p_y) ** 1.7 - 1.7 * p_y * (1 - p_y) ** 0.7 * p_y.log())
    if name == "mse":
        return z - onehot
    if name == "online_label_smoothing":
        return p - (0.6 * onehot + 0.4 / k)
    return p - onehot


def test_every_loss_of_the_study_is_registered():
    assert set(LOSSES) == {*PARAMETERS, "squared_error", "distillation"}


@pytest.mark.parametrize("name", PARAMETERS)
@pytest.mark.parametrize("classes", [2, 3, 7])
def test_value_is_the_literal_loop(name, classes):
    logits, y = draw(classes=classes)
    value = make(name)(logits, y, **PARAMETERS[name])
    assert value.shape == y.shape
    expected = [literal(name, row.tolist(), int(label)) for row, label in zip(logits, y, strict=True)]
    assert value.tolist() == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("name", PARAMETERS)
def test_gradient_is_the_stated_one(name):
    logits, y = draw()
    logits.requires_grad_()
    (gradient,) = torch.autograd.grad(make(name)(logits, y, **PARAMETERS[name]).sum(), logits)
    torch.testing.assert_close(gradient, stated_gradient(name, logits.detach(), y), rtol=1e-11, atol=1e-13)


@pytest.mark.parametrize("name", PARAMETERS)
def test_gradcheck(name):
    logits, y = draw(n=5)
    loss = make(name)
    assert torch.autograd.gradcheck(lambda z: loss(z, y, **PARAMETERS[name]), logits.requires_grad_())


@pytest.mark.parametrize("name", PARAMETERS)
def test_samples_do_not_see_each_other_and_float32_stays(name):
    logits, y = draw()
    loss = make(name)
    whole = loss(logits, y, **PARAMETERS[name])
    parts = [loss(logits[i : i + 1], y[i : i + 1], **PARAMETERS[name]) for i in range(len(y))]
    torch.testing.assert_close(whole, torch.cat(parts), rtol=1e-13, atol=1e-13)
    single = make(name)(logits.float(), y, **PARAMETERS[name])
    assert single.dtype == torch.float32
    torch.testing.assert_close(single.double(), whole, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_gradients_of_single_samples_by_vmap(name):
    logits, y = draw()

    def single(z, label):
        return LOSSES[name](z[None], label[None], **PARAMETERS[name])[0]

    gradient = torch.func.vmap(torch.func.grad(single))(logits, y)
    torch.testing.assert_close(gradient, stated_gradient(name, logits, y), rtol=1e-11, atol=1e-13)


@pytest.mark.parametrize("name", STRENGTHS)
def test_at_strength_zero_a_loss_is_cross_entropy(name):
    logits, y = draw()
    value = make(name)(logits, y, **{STRENGTHS[name]: 0.0})
    torch.testing.assert_close(value, F.cross_entropy(logits, y, reduction="none"), rtol=1e-14, atol=1e-14)


@pytest.mark.parametrize("name", CLASSIFICATION)
@pytest.mark.parametrize("scale", [1e-3, 800.0])
def test_extreme_logits_have_finite_values_and_gradients(name, scale):
    logits = scale * torch.eye(3, dtype=torch.float64).repeat(2, 1)
    y = torch.tensor([0, 1, 2, 1, 2, 0])  # the first three right, the others wrong
    logits.requires_grad_()
    parameters = PARAMETERS[name] if name != "focal" else {"gamma": 0.5}
    value = make(name)(logits, y, **parameters)
    (gradient,) = torch.autograd.grad(value.sum(), logits)
    assert value.isfinite().all()
    assert gradient.isfinite().all()


seeds = st.integers(0, 10_000)
strengths = st.floats(0, 0.99)


@given(seeds, st.integers(2, 8), st.floats(0.01, 20), strengths)
@settings(max_examples=60, deadline=None)
def test_identities(seed, classes, scale, alpha):
    z, y = draw(seed, classes=classes, scale=scale)
    close = {"rtol": 1e-12, "atol": 1e-12}
    ce = LOSSES["ce"](z, y)
    ls = LOSSES["ls"](z, y, smoothing=alpha)
    lead = z.gather(1, y[:, None])[:, 0] - z.mean(1)
    torch.testing.assert_close(ls, ce + alpha * lead, **close)
    torch.testing.assert_close(ls, F.cross_entropy(z, y, label_smoothing=alpha, reduction="none"), **close)
    maxsup = LOSSES["maxsup"](z, y, alpha=alpha)
    correct = z.argmax(1) == y
    torch.testing.assert_close(maxsup[correct], ls[correct], **close)
    assert (maxsup >= ls - 1e-12).all()
    regularisation = LOSSES["ls_regularisation"](z, y, smoothing=alpha)
    amplification = LOSSES["ls_error_amplification"](z, y, smoothing=alpha)
    torch.testing.assert_close(regularisation + amplification - ce, ls, **close)
    assert torch.equal(amplification[correct], ce[correct])
    assert (amplification <= ce).all()
    assert (regularisation >= ce).all()


@given(seeds, st.floats(-50, 50))
@settings(max_examples=20, deadline=None)
def test_all_but_the_logit_penalty_and_mse_ignore_a_shift(seed, shift):
    z, y = draw(seed)
    for name in set(PARAMETERS) - {"logit_penalty", "mse"}:
        before, after = (make(name)(logits, y, **PARAMETERS[name]) for logits in (z, z + shift))
        torch.testing.assert_close(before, after, rtol=1e-10, atol=1e-10)


def test_maxsup_shares_the_gradient_among_the_largest():
    z = torch.tensor([[1.0, 1.0, 0.0]], dtype=torch.float64, requires_grad=True)
    y = torch.tensor([2])
    (penalty,) = torch.autograd.grad((LOSSES["maxsup"](z, y, alpha=1.0) - LOSSES["ce"](z, y)).sum(), z)
    torch.testing.assert_close(penalty, torch.tensor([[1 / 6, 1 / 6, -1 / 3]], dtype=torch.float64))


def test_squared_error_is_the_objective_of_the_feature_model():
    generator = torch.Generator().manual_seed(0)
    outputs, targets = torch.randn(2, 6, 3, dtype=torch.float64, generator=generator)
    expected = (outputs - targets).norm() ** 2 / (2 * 6)
    squared_error = LOSSES["squared_error"]
    torch.testing.assert_close(squared_error(outputs, targets).mean(), expected)
    one_output = squared_error(outputs[:, :1], targets[:, :1])
    torch.testing.assert_close(one_output, (outputs[:, 0] - targets[:, 0]) ** 2 / 2)
    (gradient,) = torch.autograd.grad(squared_error(outputs.requires_grad_(), targets).sum(), outputs)
    torch.testing.assert_close(gradient, (outputs - targets).detach())
    for wrong in (targets[:, 0], targets.long()):
        with pytest.raises(ValueError, match=r"must both be floats of shape \(N, n\)"):
            squared_error(outputs, wrong)


distillation = LOSSES["distillation"]
taught = {
    "seed": st.integers(0, 10_000),
    "classes": st.integers(2, 7),
    "temperature": st.floats(0.1, 20),
    "weight": st.floats(0, 1),
    "t_squared": st.booleans(),
}


def softened(z, temperature):
    powers = [math.exp(v / temperature) for v in z]
    return [power / sum(powers) for power in powers]


@given(**taught)
@settings(max_examples=40, deadline=None)
def test_distillation_is_the_literal_loop_with_the_stated_gradient(seed, classes, temperature, weight, t_squared):
    logits, y = draw(seed, classes=classes)
    teacher, _ = draw(seed + 1, classes=classes)
    parameters = {"temperature": temperature, "weight": weight, "t_squared": t_squared}
    value = distillation(logits.requires_grad_(), y, teacher, **parameters)
    factor = temperature**2 if t_squared else 1
    expected = []
    for z, t, label in zip(logits.tolist(), teacher.tolist(), y.tolist(), strict=True):
        p, q = softened(z, temperature), softened(t, temperature)
        soft = factor * sum(-q[k] * math.log(p[k]) for k in range(classes))
        expected.append((1 - weight) * -math.log(softened(z, 1.0)[label]) + weight * soft)
    assert value.tolist() == pytest.approx(expected, rel=1e-9)
    (gradient,) = torch.autograd.grad(value.sum(), logits)
    z, onehot = logits.detach(), F.one_hot(y, classes)
    stated = (1 - weight) * (z.softmax(1) - onehot)
    stated += factor * weight / temperature * ((z / temperature).softmax(1) - (teacher / temperature).softmax(1))
    torch.testing.assert_close(gradient, stated, rtol=1e-10, atol=1e-12)


def test_distillation_gradcheck_and_no_gradient_through_the_teacher():
    (logits, y), (teacher, _) = draw(n=5), draw(1, n=5)
    logits.requires_grad_()
    assert torch.autograd.gradcheck(lambda z: distillation(z, y, teacher, temperature=3.0, weight=0.7), logits)
    value = distillation(logits, y, teacher.requires_grad_(), temperature=3.0)
    assert torch.autograd.grad(value.sum(), teacher, allow_unused=True) == (None,)


def test_distillation_is_cross_entropy_at_weight_0_and_lowest_where_student_and_teacher_agree():
    (logits, y), (teacher, _) = draw(), draw(1)
    hard = F.cross_entropy(logits, y, reduction="none")
    assert torch.equal(distillation(logits, y, teacher, temperature=5.0, weight=0.0), hard)
    agreed = distillation(teacher, y, teacher, temperature=2.0)
    q = (teacher / 2).softmax(1)
    torch.testing.assert_close(agreed, -(q * q.log()).sum(1))
    assert (distillation(logits, y, teacher, temperature=2.0) > agreed).all()


def test_distillation_from_smoothed_targets_is_label_smoothing():
    logits, y = draw(classes=4)
    targets = 0.85 * F.one_hot(y, 4) + 0.15 / 4
    torch.testing.assert_close(distillation(logits, y, targets.log()), LOSSES["ls"](logits, y, smoothing=0.15))


@pytest.mark.parametrize("t_squared", [False, True])
def test_the_gradient_at_a_large_temperature_shrinks_as_its_square_unless_that_is_undone(t_squared):
    (logits, y), (teacher, _) = draw(), draw(1)
    sizes = []
    for temperature in (100.0, 200.0):
        value = distillation(logits.requires_grad_(), y, teacher, temperature=temperature, t_squared=t_squared)
        sizes.append(torch.autograd.grad(value.sum(), logits)[0].norm())
    assert sizes[0] / sizes[1] == pytest.approx(1 if t_squared else 4, rel=0.02)


@pytest.mark.parametrize("temperature", [0.01, 1.0, 100.0])
def test_distillation_is_finite_at_extreme_logits(temperature):
    logits = 800.0 * torch.eye(3, dtype=torch.float64).requires_grad_()
    value = distillation(logits, torch.tensor([0, 2, 1]), logits.detach().flip(0), temperature=temperature, weight=0.5)
    assert value.isfinite().all()
    (gradient,) = torch.autograd.grad(value.sum(), logits)
    assert gradient.isfinite().all()


@pytest.mark.parametrize(
    ("parameters", "words"),
    [
        ({"temperature": 0.0}, "temperature: expected a finite number > 0, got 0"),
        ({"temperature": math.inf}, "temperature: expected a finite number > 0, got inf"),
        ({"temperature": math.nan}, "temperature: expected a finite number > 0, got nan"),
        ({"temperature": True}, "temperature: expected a finite number > 0, got True"),
        ({"weight": 1.1}, r"weight: expected a number in \[0, 1\], got 1.1"),
        ({"weight": math.nan}, r"weight: expected a number in \[0, 1\], got nan"),
        ({"weight": True}, r"weight: expected a number in \[0, 1\], got True"),
    ],
)
def test_impossible_temperatures_and_weights(parameters, words):
    logits, y = draw()
    with pytest.raises(ValueError, match=words):
        distillation(logits, y, logits, **parameters)


def test_a_teacher_of_other_classes_is_refused():
    logits, y = draw(classes=4)
    with pytest.raises(ValueError, match=r"shape of the student's, \(12, 4\), got \(12, 3\).*same classes"):
        distillation(logits, y, logits[:, :3])


@pytest.mark.parametrize("name", PARAMETERS)
def test_wrong_shapes_and_types(name):
    loss, parameters = make(name), PARAMETERS[name]
    y = torch.tensor([0, 1])
    with pytest.raises(ValueError, match=r"logits must have shape \(N, K\)"):
        loss(torch.zeros(2, 1), torch.tensor([0, 0]), **parameters)
    for targets in (y[:1], y[:, None]):
        with pytest.raises(ValueError, match=r"targets: expected shape \(2,\), one label a sample, got"):
            loss(torch.zeros(2, 2), targets, **parameters)
    for targets in (torch.zeros(2), y.bool()):
        with pytest.raises(ValueError, match="targets: expected an integer tensor or NumPy array, got torch"):
            loss(torch.zeros(2, 2), targets, **parameters)
    with pytest.raises(ValueError, match=r"be floats, got torch\.int64"):
        loss(torch.zeros(2, 2).long(), y, **parameters)


@pytest.mark.parametrize("name", STRENGTHS)
@pytest.mark.parametrize("value", [-0.1, math.nan, math.inf, False, "0.1", None])
def test_impossible_strengths(name, value):
    logits, y = draw()
    with pytest.raises(ValueError, match=f"{STRENGTHS[name]}: expected a number in"):
        make(name)(logits, y, **{STRENGTHS[name]: value})


@pytest.mark.parametrize("name", ["ls", "online_label_smoothing"])
def test_weights_below_one(name):
    logits, y = draw()
    with pytest.raises(ValueError, match=r"expected a number in \[0, 1\), got 1"):
        make(name)(logits, y, **{STRENGTHS[name]: 1.0})


def test_registering():
    before = dict(LOSSES)

    def ce(logits, targets):
        return logits.sum(1)

    with pytest.raises(ValueError, match="ce is already registered"):
        register(ce)
    assert before == LOSSES


# Online label smoothing


def train(loss, logits, y, soft_weight=0.4):
    return loss(logits.clone().requires_grad_(), y, soft_weight=soft_weight).detach()


def test_soft_labels_are_the_mean_of_correct_predictions():
    logits, y = draw(n=60)
    loss = online_label_smoothing()
    for part in range(0, 60, 20):
        train(loss, logits[part : part + 20], y[part : part + 20])
    loss.end_epoch()
    p = logits.softmax(1)
    expected = torch.zeros(4, 4, dtype=torch.float64)
    for k in range(4):
        rows = [p[i] for i in range(60) if y[i] == k and p[i].argmax() == k]
        assert len(rows) > 1
        expected[k] = sum(rows) / len(rows)
    torch.testing.assert_close(loss.state_dict()["soft_labels"], expected, rtol=1e-12, atol=1e-12)
    value = train(loss, logits, y)
    literal_value = [
        -sum((0.6 * (j == int(y[i])) + 0.4 * expected[y[i], j]) * p[i, j].log() for j in range(4)) for i in range(60)
    ]
    torch.testing.assert_close(value, torch.stack(literal_value), rtol=1e-12, atol=1e-12)


def test_a_class_without_correct_predictions_is_smoothed_uniformly():
    loss = online_label_smoothing()
    logits = torch.tensor([[3.0, 0.0, 0.0], [3.0, 0.0, 0.0]], dtype=torch.float64)
    y = torch.tensor([0, 1])
    for _ in range(2):
        train(loss, logits, y)
        loss.end_epoch()
    soft = loss.state_dict()["soft_labels"]
    torch.testing.assert_close(soft[0], logits[0].softmax(0))
    torch.testing.assert_close(soft[1:], torch.full((2, 3), 1 / 3, dtype=torch.float64))
    torch.testing.assert_close(soft.sum(1), torch.ones(3, dtype=torch.float64))


def test_each_epoch_starts_afresh_and_evaluation_leaves_no_trace():
    logits, y = draw(n=60)
    fresh, used = online_label_smoothing(), online_label_smoothing()
    train(used, -logits, y)
    used.end_epoch()
    train(used, logits, y)
    with torch.no_grad():
        used(draw(9)[0].requires_grad_(), draw(9)[1], soft_weight=0.4)
    used(*draw(8), soft_weight=0.4)  # these logits require no gradient
    used.end_epoch()
    train(fresh, logits, y)
    fresh.end_epoch()
    for name, tensor in fresh.state_dict().items():
        assert torch.equal(tensor, used.state_dict()[name]), name


@pytest.mark.parametrize("stop", range(6))
def test_a_restored_loss_goes_on_with_the_same_bits(stop):
    def run(interrupt):
        loss, values = online_label_smoothing(), []
        for step in range(6):
            if step == interrupt:
                state = loss.state_dict()
                train(loss, *draw(99))  # the copy must not see what follows
                loss = online_label_smoothing()
                copy = {name: tensor.clone() for name, tensor in state.items()}
                loss.load_state_dict(state)
                train(loss, *draw(99))  # nor must what was loaded
                assert all(torch.equal(tensor, copy[name]) for name, tensor in state.items())
                loss.load_state_dict(state)
            values.append(train(loss, *draw(step)))
            if step % 2:
                loss.end_epoch()
        return torch.stack(values)

    assert torch.equal(run(stop), run(None))


def test_a_state_that_does_not_fit():
    loss = online_label_smoothing()
    with pytest.raises(RuntimeError, match="without a training batch"):
        loss.end_epoch()
    train(loss, *draw(classes=4))
    with pytest.raises(ValueError, match="4 classes, logits have 3"):
        train(loss, *draw(classes=3))
    loss.end_epoch()
    with pytest.raises(RuntimeError, match="without a training batch"):
        loss.end_epoch()
    state = loss.state_dict()
    del state["correct_count"]
    with pytest.raises(ValueError, match="not a state of online_label_smoothing"):
        loss.load_state_dict(state)
    with pytest.raises(ValueError, match="not a state of online_label_smoothing"):
        loss.load_state_dict({**loss.state_dict(), "soft_labels": torch.zeros(4, 3)})
    for other in ({"soft_labels": torch.tensor(1.0)}, {"a": 1}):
        with pytest.raises(ValueError, match="not a state of online_label_smoothing"):
            loss.load_state_dict(other)


def test_only_stateful_losses_are_stateful():
    assert isinstance(online_label_smoothing(), StatefulLoss)
    assert not any(isinstance(LOSSES[name], StatefulLoss) for name in FUNCTIONS)


# Schedules


def strengths_over(schedule, value, epochs):
    return [schedule.at(value, epoch, epochs) for epoch in range(epochs)]


def test_constant():
    assert strengths_over(Schedule(), 0.05, 4) == [0.05] * 4
    assert Schedule() == Schedule("constant")


def test_linear_is_that_of_maxsup():
    values = strengths_over(Schedule("linear", end=0.2), 0.1, 200)
    assert values == pytest.approx([0.1 + 0.1 * t / 200 for t in range(200)], rel=1e-14)


def test_linear_up_to_an_epoch():
    values = strengths_over(Schedule("linear", end=0.0, epoch=4), 0.8, 6)
    assert values == pytest.approx([0.8, 0.6, 0.4, 0.2, 0.0, 0.0], abs=1e-15)
    assert strengths_over(Schedule("linear", end=0.2, epoch=5), 0.1, 5) == strengths_over(
        Schedule("linear", end=0.2), 0.1, 5
    )


@pytest.mark.parametrize("s", range(5))
def test_drop(s):
    assert strengths_over(Schedule("drop", epoch=s), 0.1, 4) == [0.1] * s + [0.0] * (4 - s)


@given(strengths, strengths, st.integers(1, 50))
def test_linear_stays_between_its_ends(value, end, epochs):
    values = strengths_over(Schedule("linear", end=end), value, epochs)
    assert values[0] == value
    assert all(min(value, end) - 1e-15 <= v <= max(value, end) + 1e-15 for v in values)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"kind": "cosine"}, "constant, linear or drop, got 'cosine'"),
        ({"kind": "linear"}, "linear needs an end"),
        ({"kind": "drop", "epoch": 3, "end": 0.1}, "the others have none"),
        ({"kind": "constant", "end": 0.1}, "the others have none"),
        ({"kind": "constant", "epoch": 3}, "constant has no epoch"),
        ({"kind": "drop"}, "drop needs an epoch"),
        ({"kind": "drop", "epoch": -1}, "at least 0, got -1"),
        ({"kind": "linear", "end": 0.2, "epoch": 0}, "at least 1, got 0"),
        ({"kind": "linear", "end": math.nan}, "finite"),
        ({"kind": "linear", "end": "x"}, "finite"),
        ({"kind": "linear", "end": True}, "finite"),
        ({"kind": "drop", "epoch": 2.5}, "whole epoch of at least 0, got 2.5"),
        ({"kind": "drop", "epoch": math.nan}, "whole epoch"),
    ],
)
def test_impossible_schedules(arguments, message):
    with pytest.raises(ValueError, match=message):
        Schedule(**arguments)


@pytest.mark.parametrize("schedule", [Schedule("drop", epoch=11), Schedule("linear", end=0.2, epoch=11)])
def test_a_schedule_past_the_end(schedule):
    with pytest.raises(ValueError, match="has epoch 11, but training has 10 epochs"):
        schedule.at(0.1, 0, 10)


@pytest.mark.parametrize("epoch", [-1, 10])
def test_an_epoch_outside_the_training(epoch):
    with pytest.raises(ValueError, match=r"epoch must lie in \[0, 10\)"):
        Schedule().at(0.1, epoch, 10)
