"""The training loop: an interrupted run ends with the same bits, and the trained objective is the documented one."""

from dataclasses import replace
from functools import cache

import pytest
import torch
from torch import nn
from torch.nn import functional

from nclens.data.tensors import Split
from nclens.models import Network
from nclens.training.learning_rate import learning_rates
from nclens.training.loop import (
    Penalties,
    Trainer,
    as_teacher,
    derived_seed,
    evaluate,
    evaluation_batch,
    extract_features,
    objective,
)
from nclens.training.loss import TrainedLoss
from nclens.training.runtime import configure
from nclens.workflow.build.losses import build_loss
from nclens.workflow.build.models import build_network
from nclens.workflow.failures import explained
from tests.losses import entry
from tests.training.descents import finish, in_steps, interrupted, sgd_settings, weights


def split(count, seed=0, shape=(1, 8, 8)):
    generator = torch.Generator().manual_seed(seed)
    images = torch.randint(0, 256, (count, *shape), generator=generator, dtype=torch.uint8)
    return Split.place(images, torch.arange(count) % 3, [0.5], [0.25], "cpu")


def trainer(settings=None, seed=0, loss=None):
    torch.manual_seed(derived_seed(seed, "weights"))
    network = build_network({"name": "resnet8", "width": 2}, (1, 8, 8), 3).to(memory_format=torch.channels_last)
    settings = settings or sgd_settings(
        epochs=3, batch_size=8, learning_rate=0.1, milestones=(1,), augmentation="flip_crop"
    )
    return Trainer(network, loss or build_loss(entry("ls", smoothing=0.1)), split(30), split(9, 1), settings, seed)


ENTRIES = {
    "constant": entry("ls", smoothing=0.1),
    "scheduled": entry("maxsup", alpha=0.1, schedule={"kind": "linear", "end": 0.9}),
    "with a memory": entry("online_label_smoothing", soft_weight=0.5, schedule={"kind": "drop", "epoch": 2}),
}


@cache
def uninterrupted(name):
    return finish(trainer(loss=build_loss(ENTRIES[name], 3)))


@pytest.mark.parametrize("name", ENTRIES)
@pytest.mark.parametrize("stops", [[1], [3], [4], [1, 1, 5], [2, 7]])
def test_interrupted_between_any_two_steps_equals_uninterrupted(stops, name):
    reference = uninterrupted(name)
    current = interrupted(lambda: trainer(loss=build_loss(ENTRIES[name], 3)), stops)
    assert torch.equal(weights(current), weights(reference))
    assert current.history == reference.history
    assert all(
        torch.equal(current.loss.state_dict()[name], value) for name, value in reference.loss.state_dict().items()
    )


def taught(precision="float32", **settings):
    """A student, its teacher of another width, and the teacher's inputs, batch by batch."""
    torch.manual_seed(99)
    network = build_network({"name": "resnet8", "width": 3}, (1, 8, 8), 3)
    network(torch.randn(20, 1, 8, 8))  # changes the statistics of batch normalisation
    teach, seen_by_teacher = as_teacher(network, precision), []

    def listen(inputs):
        seen_by_teacher.append(inputs.clone())
        return teach(inputs)

    loss = build_loss(entry("distillation", temperature=2.0, weight=0.5), 3, listen)
    defaults = {"epochs": 3, "batch_size": 8, "learning_rate": 0.1, "augmentation": "flip_crop"}
    return trainer(sgd_settings(**defaults | settings), loss=loss), network, seen_by_teacher


@pytest.mark.parametrize("stops", [[1], [2, 5], [4]])
def test_a_student_interrupted_between_any_two_steps_equals_uninterrupted(stops):
    reference, current = finish(taught()[0]), taught()[0]
    for steps in stops:
        left = iter(range(steps - 1))
        while current.advance(lambda left=left: next(left, None) is None):
            pass
        tensors, values = current.state()
        saved = {name: tensor.clone() for name, tensor in tensors.items()}
        current = taught()[0]
        current.resume(saved, values)
    finish(current)
    assert torch.equal(weights(current), weights(reference))
    assert current.history == reference.history


def test_a_teacher_sees_the_batch_that_its_student_sees_and_stays_as_it_is():
    student, teacher, given = taught()
    before = {name: value.clone() for name, value in teacher.state_dict().items()}
    seen = []
    student.network.backbone.register_forward_pre_hook(lambda module, arguments: seen.append(arguments[0].clone()))
    finish(student)
    assert len(given) == len(seen) > 3 * student.steps_per_epoch
    assert all(torch.equal(*pair) for pair in zip(given, seen, strict=True))
    assert student.network.training is False  # evaluated last
    assert teacher.training is False
    assert all(torch.equal(value, before[name]) for name, value in teacher.state_dict().items())
    assert all(parameter.grad is None and not parameter.requires_grad for parameter in teacher.parameters())


def test_the_loss_of_a_student_is_the_formula_with_the_teacher_in_evaluation_mode():
    student, teacher, _ = taught(augmentation="none")
    finish(student)
    inputs = student.test_split.normalise(student.test_split.inputs)
    with torch.no_grad():
        own, other = student.network.eval()(inputs), teacher.eval()(inputs)
    soft = -((other / 2).softmax(1) * (own / 2).log_softmax(1)).sum(1).mean()
    hard = functional.cross_entropy(own, student.test_split.targets)
    assert student.history[-1]["loss"] == pytest.approx(float(soft + hard) / 2, rel=1e-5)
    assert student.history[-1]["cross_entropy"] == pytest.approx(float(hard), rel=1e-5)


def test_a_teacher_under_autocast_gives_float32_near_the_exact_logits():
    _, teacher, _ = taught()
    inputs = torch.randn(6, 1, 8, 8)
    rounded, exact = as_teacher(teacher, "bf16")(inputs), as_teacher(teacher)(inputs)
    assert rounded.dtype == torch.float32
    assert 0 < (rounded - exact).abs().max() < 0.1


def test_each_epoch_trains_and_evaluates_at_its_own_strength():
    trained = trainer(loss=build_loss(entry("ls", smoothing=0.4, schedule={"kind": "drop", "epoch": 1}), 3))
    trained.advance()
    assert trained.history[-1]["loss"] != trained.history[-1]["cross_entropy"]
    assert trained.loss.parameters == {"smoothing": 0.4}
    finish(trained)
    for row in trained.history[2:]:
        assert row["loss"] == pytest.approx(row["cross_entropy"], rel=1e-6)


def test_a_dropped_loss_follows_the_undropped_one_until_the_drop():
    smoothed = {"smoothing": 0.4}
    dropped = trainer(loss=build_loss(entry("ls", **smoothed, schedule={"kind": "drop", "epoch": 1}), 3))
    kept = trainer(loss=build_loss(entry("ls", **smoothed), 3))
    for current in (dropped, kept):
        current.advance()
    assert torch.equal(weights(dropped), weights(kept))
    for current in (dropped, kept):
        current.advance()
    assert not torch.equal(weights(dropped), weights(kept))


def test_an_epoch_is_evaluated_with_the_memory_it_was_trained_with():
    trained = trainer(loss=build_loss(ENTRIES["with a memory"], 3))
    trained.advance()
    assert trained.loss.state_dict()["batches"] == 0
    uniform = evaluate(trained.network, build_loss(entry("ls", smoothing=0.5)), trained.test_split)
    assert trained.history[-1]["loss"] == pytest.approx(uniform["loss"], rel=1e-6)


def test_the_first_steps_are_plain_sgd_with_momentum():
    trained = trainer(sgd_settings(epochs=1, batch_size=8, learning_rate=0.1, weight_decay=0.01))
    reference = trainer().network.train()
    optimiser = torch.optim.SGD(reference.parameters(), lr=0.1, momentum=0.9, weight_decay=0.01)
    data = split(30)
    order = torch.randperm(30, generator=torch.Generator().manual_seed(derived_seed(0, "order", 1)))
    for batch in order.split(8)[:3]:
        inputs = (data.inputs[batch].float() - 127.5) / 63.75
        loss = functional.cross_entropy(reference(inputs), data.targets[batch], label_smoothing=0.1)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    trained.advance()
    expected = torch.cat([value.flatten().double() for value in reference.state_dict().values()])
    torch.testing.assert_close(weights(trained), expected, rtol=1e-4, atol=1e-5)


def test_the_learning_rate_falls_after_each_milestone():
    found = learning_rates(1.0, in_steps(3, 6), 9, 1)
    assert [found[epoch - 1] for epoch in (1, 3, 4, 6, 7)] == pytest.approx([1, 1, 0.1, 0.1, 0.01])


def test_history_has_both_splits_of_every_epoch():
    trained = finish(trainer())
    assert [(row["epoch"], row["split"]) for row in trained.history] == [
        (epoch, split) for epoch in (1, 2, 3) for split in ("train", "test")
    ]
    last = trained.history[-1]
    assert {key: last[key] for key in ("loss", "cross_entropy", "error")} == evaluate(
        trained.network, trained.loss, trained.test_split
    )


def test_two_losses_of_one_seed_start_alike_and_see_the_same_batches():
    first, second = trainer(loss=build_loss(entry("ce"))), trainer()
    assert torch.equal(weights(first), weights(second))
    assert derived_seed(0, "order", 1) != derived_seed(1, "order", 1) != derived_seed(0, "order", 2)


def test_a_loss_that_is_not_finite_stops_with_epoch_and_learning_rate():
    trained = trainer(loss=TrainedLoss(lambda logits, targets: logits.sum() * float("nan")))
    with pytest.raises(FloatingPointError, match=r"epoch 1 \(learning rate 0\.1\)"):
        trained.advance()


@pytest.mark.parametrize("name", ["ls", "online_label_smoothing"])
def test_weights_that_diverge_end_with_the_same_message_whatever_the_loss(name):
    parameters = {"ls": {"smoothing": 0.1}, "online_label_smoothing": {"soft_weight": 0.5}}[name]
    trained = trainer(loss=build_loss(entry(name, **parameters)))
    with torch.no_grad():
        trained.network.head.weight.fill_(float("inf"))
    with pytest.raises(FloatingPointError, match=r"the loss is not finite in epoch 1 \(learning rate 0\.1\)"):
        trained.advance()


@pytest.mark.parametrize("place", [0, 1])
@pytest.mark.parametrize("label", [7, -1, -100])
def test_labels_out_of_range_are_refused_before_the_first_step(place, label):
    splits = [split(30), split(9, 1)]
    splits[place].targets[5] = label
    network = build_network({"name": "resnet8", "width": 2}, (1, 8, 8), 3)
    name = ("training", "test")[place]
    with pytest.raises(ValueError, match=rf"the {name} labels must lie in \[0, 3\), got {label} at index 5 \(1 of"):
        Trainer(network, build_loss(entry("ce")), *splits, sgd_settings(epochs=1, batch_size=8, learning_rate=0.1), 0)


def test_no_step_looks_at_values_which_would_make_a_gpu_wait(monkeypatch):
    def looked(*given):
        raise AssertionError("a value was looked at")

    for name in ("check_masked", "check_range"):
        monkeypatch.setattr(f"nclens.losses.{name}", looked)
    for one in ENTRIES.values():
        trainer(loss=build_loss(one, epochs=3)).advance()
    with pytest.raises(AssertionError, match="looked at"):
        build_loss(entry("ce"))(torch.zeros(2, 3), torch.tensor([0, 1]))


def test_a_batch_larger_than_the_split_is_refused():
    with pytest.raises(ValueError, match="batch_size 31"):
        trainer(sgd_settings(epochs=1, batch_size=31, learning_rate=0.1))


def test_evaluation_does_not_depend_on_its_batches():
    trained = trainer()
    whole, parts = (evaluate(trained.network, trained.loss, split(30), batch_size=size) for size in (30, 7))
    assert whole == pytest.approx(parts, rel=1e-5)


def test_features_are_in_order_and_give_the_logits():
    trained = trainer()
    features, logits = extract_features(trained.network, split(30), batch_size=7)
    assert features.shape == (30, 8)
    head = trained.network.head
    torch.testing.assert_close(features @ head.weight.T + head.bias, logits)
    torch.testing.assert_close(extract_features(trained.network, split(30), batch_size=30)[0], features)


@pytest.mark.cuda
def test_cuda_and_cpu_agree_on_features():
    configure(1)  # PyTorch's default rounds the factors of convolutions to TensorFloat-32
    trained = trainer()
    expected, _ = extract_features(trained.network, split(30))
    data = split(30)
    moved = Split(data.inputs.cuda(), data.targets.cuda(), data.mean.cuda(), data.std.cuda())
    found, _ = extract_features(trained.network.cuda(), moved)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def test_penalties_are_those_of_the_unconstrained_feature_model():
    trained = trainer()
    data = split(30)
    features, _ = extract_features(trained.network, data)
    penalties = Penalties(lambda_w=0.2, lambda_h_total=3.0, lambda_b=0.5)
    found = evaluate(trained.network, trained.loss, data, batch_size=7, penalties=penalties)
    plain = evaluate(trained.network, trained.loss, data)
    weight, bias = trained.network.head.weight.detach(), trained.network.head.bias.detach()
    expected = (0.2 * weight.square().sum() + 3.0 / 30 * features.square().sum() + 0.5 * bias.square().sum()) / 2
    assert found["loss"] - plain["loss"] == pytest.approx(float(expected), rel=1e-4)
    assert found["cross_entropy"] == pytest.approx(plain["cross_entropy"], rel=1e-5)


def test_a_batchs_penalty_is_unbiased():
    trained = trainer()
    features = torch.rand(30, 8, generator=torch.Generator().manual_seed(1))
    penalties = Penalties(lambda_w=0.2, lambda_h_total=3.0, lambda_b=0.5)
    batches = torch.stack([penalties.of(trained.network, part) for part in features.split(6)])
    torch.testing.assert_close(batches.mean(), penalties.of(trained.network, features))


def test_heavier_penalties_train_smaller_features():
    norms = []
    for weight in (0.01, 1.0):
        penalties = Penalties(lambda_w=weight, lambda_h_total=weight, lambda_b=weight)
        settings = sgd_settings(epochs=5, batch_size=10, learning_rate=0.05, weight_decay=0.0, penalties=penalties)
        trained = finish(trainer(settings))
        norms.append(float(trained.network.head.weight.detach().norm()))
    assert norms[1] < 0.9 * norms[0]


@pytest.mark.parametrize(
    ("shape", "size"),
    [((9,), 250), ((1, 28, 28), 250), ((3, 32, 32), 250), ((3, 64, 64), 62), ((3, 96, 96), 27), ((3, 999, 999), 1)],
)
def test_larger_images_are_evaluated_in_smaller_batches(shape, size):
    assert evaluation_batch(torch.empty(0, *shape)) == size


# --- options ---------------------------------------------------------------------------------------------------------

CROPPED = sgd_settings(epochs=3, batch_size=8, learning_rate=0.1, milestones=(1,), augmentation="flip_crop")


def test_bf16_is_the_backbones_alone_and_near_float32():
    network = trainer().network
    inputs, targets = split(30).normalise(split(30).inputs), split(30).targets
    seen = []
    hook = network.backbone.register_forward_hook(lambda module, arguments, output: seen.append(output))
    logits, loss = objective(network, build_loss(entry("ce")), None, inputs, targets, precision="bf16")
    hook.remove()
    assert (seen[0].dtype, logits.dtype, loss.dtype) == (torch.bfloat16, torch.float32, torch.float32)
    # The head sees the features as they are, and rounds nothing more.
    assert torch.equal(logits, network.head(seen[0].float()))
    exact, _ = objective(network, build_loss(entry("ce")), None, inputs, targets)
    assert 0 < float((logits - exact).detach().abs().max()) < 0.05


def test_bf16_trains_float32_weights_and_resumes_with_the_same_bits():
    settings = replace(CROPPED, precision="bf16")
    reference, current = finish(trainer(settings)), trainer(settings)
    left = iter(range(4))
    while current.advance(lambda: next(left, None) is None):
        pass
    tensors, values = current.state()
    resumed = trainer(settings)
    resumed.resume({name: tensor.clone() for name, tensor in tensors.items()}, values)
    assert torch.equal(weights(finish(resumed)), weights(reference))
    assert {value.dtype for value in reference.network.parameters()} == {torch.float32}
    plain = finish(trainer(CROPPED))
    assert reference.history[-1]["loss"] == pytest.approx(plain.history[-1]["loss"], rel=0.05)
    assert reference.history[-1]["loss"] != plain.history[-1]["loss"]


def small(compiled):
    """The training of a network that compiles in seconds."""
    torch.manual_seed(0)
    backbone = nn.Sequential(nn.Flatten(), nn.Linear(64, 8), nn.BatchNorm1d(8), nn.ReLU())
    settings = sgd_settings(epochs=2, batch_size=10, learning_rate=0.1, compile=compiled)
    return Trainer(Network(backbone, 8, 3), build_loss(entry("ce")), split(30), split(9, 1), settings, 0)


@pytest.mark.lengthy
def test_compiled_steps_train_the_same_network_under_the_same_names():
    plain, compiled = finish(small(False)), finish(small(True))
    assert list(compiled.network.state_dict()) == list(plain.network.state_dict())
    assert list(compiled.state()[0]) == list(plain.state()[0])
    torch.testing.assert_close(weights(compiled), weights(plain), rtol=1e-4, atol=1e-5)
    half = small(True)
    half.advance()
    tensors, values = half.state()
    resumed = small(True)
    resumed.resume({name: tensor.clone() for name, tensor in tensors.items()}, values)
    assert torch.equal(weights(finish(resumed)), weights(compiled))


@pytest.mark.lengthy
def test_without_a_compiler_the_message_says_so(monkeypatch, tmp_path):
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr("torch._inductor.config.cpp.cxx", (None, str(tmp_path / "none")))
    torch.compiler.reset()
    with pytest.raises(OSError, match=r"training.compile is true.*needs a C\+\+ compiler"), explained():
        small(True).advance()


def test_seconds_are_of_training_steps_and_outlive_a_restart(monkeypatch):
    clock = iter(range(100))
    monkeypatch.setattr("nclens.training.loop.time.monotonic", lambda: float(next(clock)))
    trained = trainer()
    trained.advance(lambda: True)
    assert trained.seconds == 1.0  # begun at 0, stopped at 1
    tensors, values = trained.state()
    resumed = trainer()
    resumed.resume(tensors, values)
    resumed.advance()
    assert resumed.seconds == 2.0


def regression(settings=None, record_every=1, **changes):
    generator = torch.Generator().manual_seed(0)
    rows, targets = torch.randn(30, 4, generator=generator), torch.randn(30, 3, generator=generator)
    part = Split.place(rows, targets, [0.5] * 4, [2.0] * 4, "cpu", "regression")
    torch.manual_seed(0)
    network = build_network({"name": "mlp", "widths": [8, 6]}, (4,), 3)
    chosen = {"epochs": 5, "batch_size": 8, "learning_rate": 0.05, "weight_decay": 0.01, "record_every": record_every}
    loss = build_loss(entry("squared_error"))
    return Trainer(network, loss, part, part, settings or sgd_settings(**(chosen | changes)), seed=0)


def test_a_regression_records_its_squared_error():
    trained = finish(regression())
    assert [row["split"] for row in trained.history] == ["train", "test"] * 5
    test = trained.history[-1]
    with torch.no_grad():
        split = trained.test_split
        residuals = trained.network(split.normalise(split.inputs)) - split.targets
    assert test["mse"] == pytest.approx(float(residuals.square().sum(1).mean()), rel=1e-6)
    assert test["loss"] == pytest.approx(test["mse"] / 2, rel=1e-6)
    assert torch.equal(split.inputs, regression().test_split.inputs)


def test_recording_less_often_changes_no_bits():
    often, seldom = finish(regression()), finish(regression(record_every=3))
    assert torch.equal(weights(often), weights(seldom))
    assert [row["epoch"] for row in seldom.history] == [1, 1, 3, 3, 5, 5]
    assert seldom.history == [row for row in often.history if row["epoch"] in (1, 3, 5)]


@pytest.mark.parametrize("stops", [[1], [2, 5], [4, 1, 3]])
def test_an_interrupted_regression_ends_with_the_same_bits(stops):
    reference = finish(regression(record_every=2))
    current = regression(record_every=2)
    for steps in stops:
        left = iter(range(steps - 1))
        while current.advance(lambda left=left: next(left, None) is None):
            pass
        tensors, values = current.state()
        current = regression(record_every=2)
        current.resume({name: tensor.clone() for name, tensor in tensors.items()}, values)
    finish(current)
    assert torch.equal(weights(current), weights(reference))
    assert current.history == reference.history


def test_a_diverging_regression_is_reported_at_the_next_record():
    with pytest.raises(FloatingPointError, match=r"epoch \d+ \(learning rate 1e\+20\)"):
        finish(regression(record_every=2, learning_rate=1e20))


class Counting(nn.Module):
    """Scales its input by the number of training passes, which its state may lack."""

    def __init__(self, persistent):
        super().__init__()
        self.register_buffer("passes", torch.ones(()), persistent=persistent)
        self.register_buffer("mask", torch.tensor([0.0, float("nan"), float("-inf")]), persistent=False)

    def forward(self, inputs):
        self.passes += self.training
        return inputs.flatten(1) / self.passes


@pytest.mark.parametrize("persistent", [True, False])
def test_a_buffer_that_changes_in_training_must_be_in_the_snapshots(persistent):
    settings = sgd_settings(epochs=1, batch_size=8, learning_rate=0.1)
    network = Network(Counting(persistent), 64, 3)
    trained = Trainer(network, build_loss(entry("ls", smoothing=0.1)), split(30), split(9, 1), settings, 0)
    if persistent:
        finish(trained)
    else:
        with pytest.raises(
            ValueError, match=r"the buffer `backbone\.passes` changes in training but is in no snapshot"
        ):
            finish(trained)


class Faulty(nn.Linear):
    """A head whose logits are off in one call."""

    faulty, calls = None, 0

    def forward(self, inputs):
        self.calls += 1
        return super().forward(inputs) + (self.calls - 1 == self.faulty)


@pytest.mark.parametrize(("faulty", "refused"), [(0, True), (1, False), (2, True), (None, False)])
def test_the_logits_of_the_first_and_the_last_batch_are_checked(faulty, refused):
    network = Network(nn.Flatten(), 64, 3)
    network.head = Faulty(64, 3)
    network.head.faulty = faulty
    if refused:
        with pytest.raises(
            ValueError, match=r"the head `head` \(Faulty\) is not z = W h \+ b: .* differs from it by 1"
        ):
            extract_features(network, split(25), batch_size=10)
    else:
        features, logits = extract_features(network, split(25), batch_size=10)
        assert (features.shape, logits.shape) == ((25, 64), (25, 3))


def test_penalties_are_of_the_weight_that_made_the_logits():
    """The power iteration of spectral_norm takes one step in a pass, and changes W at each."""
    torch.manual_seed(0)
    network = Network(nn.Flatten(), 64, 3).train()
    network.head = nn.utils.parametrizations.spectral_norm(network.head)
    start = {name: value.clone() for name, value in network.state_dict().items()}
    given = build_loss(entry("ls", smoothing=0.1)), Penalties(2.0, 0.0, 0.0), torch.eye(64), torch.arange(64) % 3
    logits, penalised = objective(network, *given)
    after = {name: value.clone() for name, value in network.state_dict().items()}
    network.load_state_dict(start)
    _, plain = objective(network, given[0], None, *given[2:])
    assert all(torch.equal(after[name], value) for name, value in network.state_dict().items())
    weight = (logits - network.head.bias).T  # of unit vectors
    assert (penalised - plain).item() == pytest.approx(weight.square().sum().item(), rel=1e-5)


class Recorder:
    """Like `record_cuda_graph`: takes the step three times; what it returns takes it with the numbers it had."""

    def __init__(self):
        self.count = 0

    def __call__(self, step, generators):
        self.count += 1
        for _ in range(3):
            step()
        return step


GRAPHED = {
    "constant": ({}, 3, lambda: build_loss(entry("ls", smoothing=0.1), 4)),
    "penalties": ({"penalties": Penalties(0.1, 0.2, 0.3), "weight_decay": 0.0}, 3, lambda: None),
    "without momentum": ({"momentum": 0.0, "record_every": 2}, 4, lambda: None),
    "bf16": ({"precision": "bf16"}, 3, lambda: None),
    "scheduled": (
        {},
        4,
        lambda: build_loss(entry("maxsup", alpha=0.1, schedule={"kind": "linear", "end": 0.9}), 4),
    ),
}


def graphed(chosen, loss, recorder):
    defaults = {"epochs": 4, "batch_size": 8, "learning_rate": 0.1, "milestones": (1, 2), "augmentation": "flip_crop"}
    settings = sgd_settings(**defaults | chosen)
    made = trainer(settings, loss=loss)
    return Trainer(made.network, made.loss, made.train_split, made.test_split, settings, 0, recorder)


@pytest.mark.parametrize(("chosen", "recordings", "loss"), GRAPHED.values(), ids=GRAPHED)
def test_replayed_steps_give_the_same_bits_and_are_recorded_once_for_each_set_of_numbers(chosen, recordings, loss):
    """Over milestones, 30 samples in batches of 8, and an interruption."""
    reference, recorder = finish(graphed(chosen, loss(), None)), Recorder()
    assert_equal(finish(graphed(chosen, loss(), recorder)), reference)
    assert recorder.count == recordings
    current = graphed(chosen, loss(), Recorder())
    left = iter(range(4))
    while current.advance(lambda: next(left, None) is None):
        pass
    state = current.state()
    current = graphed(chosen, loss(), Recorder())
    current.resume({name: tensor.clone() for name, tensor in state[0].items()}, state[1])
    assert_equal(finish(current), reference)


@pytest.mark.cuda
def test_a_cuda_graph_gives_the_bits_of_the_step_itself():
    def finished(cuda_graph):
        made = graphed({"cuda_graph": cuda_graph, "epochs": 6}, None, None)
        placed = [
            Split(data.inputs.cuda(), data.targets.cuda(), data.mean.cuda(), data.std.cuda())
            for data in (made.train_split, made.test_split)
        ]
        return finish(Trainer(made.network.cuda(), made.loss, *placed, made.settings, 0))

    configure(1, deterministic=True)
    try:
        assert_equal(finished("required"), finished("never"))
    finally:
        configure(1)


def assert_equal(trained, reference):
    assert torch.equal(weights(trained), weights(reference))
    assert trained.history == reference.history
    for name, value in reference.state()[0].items():
        assert torch.equal(trained.state()[0][name], value), name


def test_a_student_is_replayed_with_its_teacher():
    reference, student = finish(taught()[0]), taught()[0]
    args = student.network, student.loss, student.train_split, student.test_split, student.settings, 0
    assert_equal(finish(Trainer(*args, Recorder())), reference)


@pytest.mark.parametrize("fault", ["refused", "wrong"])
def test_steps_are_taken_directly_where_a_recording_fails_or_differs(fault):
    def recorder(step, generators):
        step()
        if fault == "refused":
            raise RuntimeError("operation not permitted when stream is capturing")
        return lambda: None

    reason = "operation not permitted" if fault == "refused" else "its result differs from that of the step itself"
    reference, current = finish(graphed({}, None, None)), graphed({}, None, recorder)
    with pytest.warns(RuntimeWarning, match=f"training without a CUDA graph: .*{reason}"):
        finish(current)
    assert_equal(current, reference)
    with pytest.raises(ValueError, match=f"cuda_graph is `required`, but a step cannot be a CUDA graph: .*{reason}"):
        finish(graphed({"cuda_graph": "required"}, None, recorder))


@pytest.mark.parametrize(
    ("chosen", "loss", "reason"),
    [
        ({"cuda_graph": "never"}, None, "never"),
        ({"compile": True}, None, "compile is true"),
        ({}, build_loss(entry("online_label_smoothing", soft_weight=0.5), 4), "remembers earlier steps"),
    ],
)
def test_what_cannot_be_replayed_says_why(chosen, loss, reason):
    assert reason in graphed(chosen, loss, Recorder()).direct
    assert graphed(chosen, loss, None).direct is None  # on a CPU there is nothing to say
    if chosen.get("cuda_graph") != "never":
        with pytest.raises(ValueError, match=f"cuda_graph is `required`, but .*{reason}"):
            graphed(chosen | {"cuda_graph": "required"}, loss, Recorder())


def on_parts(features=False):
    """Cross entropy of logits, made of features, weight and bias where a loss names them."""

    def given(logits, targets, features, weight, bias):
        return functional.cross_entropy(features @ weight.T + bias, targets, reduction="none")

    def plain(logits, targets):
        return functional.cross_entropy(logits, targets, reduction="none")

    return TrainedLoss(given, needs=("features", "weight", "bias")) if features else TrainedLoss(plain)


@pytest.mark.parametrize("chosen", [{}, {"precision": "bf16"}, {"penalties": Penalties(0.1, 0.2, 0.3)}])
def test_a_loss_of_features_and_weights_is_the_loss_of_the_logits_that_they_make(chosen):
    """Its gradients reach backbone and head, replayed too; history has it of both splits."""
    named, plain = (finish(graphed({"epochs": 2, **chosen}, on_parts(one), None)) for one in (True, False))
    torch.testing.assert_close(weights(named), weights(plain), rtol=1e-4, atol=1e-5)
    for found, expected in zip(named.history, plain.history, strict=True):
        assert found["split"] == expected["split"]
        assert found["loss"] == pytest.approx(expected["loss"], rel=1e-3)
    recorder = Recorder()
    assert_equal(finish(graphed({"epochs": 2, **chosen}, on_parts(True), recorder)), named)
    assert recorder.count == 2


def test_a_loss_on_features_alone_trains_the_backbone_and_leaves_the_head():
    loss = TrainedLoss(lambda logits, targets, features: features.square().sum(1), needs=("features",))
    trained = trainer(loss=loss)
    head, backbone = (part.state_dict() for part in (trained.network.head, trained.network.backbone))
    before = {name: value.clone() for name, value in {**head, **{f"b.{k}": v for k, v in backbone.items()}}.items()}
    trained.advance()
    assert all(torch.equal(value, before[name]) for name, value in trained.network.head.state_dict().items())
    assert not torch.equal(trained.network.backbone.state_dict()["0.weight"], before["b.0.weight"])


def test_a_loss_without_a_gradient_is_named_with_what_it_gets():
    loss = TrainedLoss(lambda logits, targets, features: features.detach().sum(1), needs=("features",))
    with pytest.raises(ValueError, match="does not depend on the logits or `features`: it has no gradient"):
        trainer(loss=loss).advance()
    with pytest.raises(ValueError, match="does not depend on the logits: it has no gradient"):
        trainer(loss=TrainedLoss(lambda logits, targets: logits.detach().sum(1))).advance()
