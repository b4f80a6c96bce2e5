"""What a training, an extraction and the probes do on a GPU is what they do on a CPU, which the same tests run too."""

import contextlib
import math
import warnings

import pytest
import torch

from nclens.data.tensors import Split
from nclens.metrics.sufficient import SufficientStatistics
from nclens.models import place_network
from nclens.probes.gradients import gradient_variances
from nclens.probes.information import logit_information
from nclens.probes.layers import layer_measures
from nclens.probes.out_of_distribution import detection
from nclens.probes.segmentation import segmentation
from nclens.probes.sharpness import sharpness_of_losses
from nclens.training import graph
from nclens.training.loop import Trainer, as_teacher, derived_seed, extract_features
from nclens.training.optimizer import Optimizer
from nclens.training.passes import Passes
from nclens.training.runtime import configure
from nclens.workflow.build.losses import build_loss
from nclens.workflow.build.models import build_network
from nclens.workflow.build.recipes import build_recipe
from nclens.workflow.specs import Recipe
from tests.data import test_stream
from tests.data.pictures import pictures
from tests.losses import entry
from tests.training.descents import finish, in_steps, interrupted, sgd_settings, weights

DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.cuda)]
SHAPE, K = (3, 16, 16), 3


@pytest.fixture
def configured():
    """Deterministic operations, in float32 as IEEE has it, for a test."""
    configure(1, deterministic=True)
    yield
    configure(1)


def split(count, device, seed=0, shape=SHAPE):
    images = torch.randint(0, 256, (count, *shape), generator=torch.Generator().manual_seed(seed), dtype=torch.uint8)
    targets = torch.arange(count) % K
    images[:, 0, :4] = (40 + 80 * targets).to(torch.uint8)[:, None, None]
    return Split.place(images, targets, [0.5] * shape[0], [0.25] * shape[0], device)


def network(device, seed=0, dropout=False):
    torch.manual_seed(derived_seed(seed, "weights"))
    made = build_network({"name": "resnet8", "width": 4}, SHAPE, K)
    if dropout:
        made.backbone.append(torch.nn.Dropout(0.2))
    return place_network(made, SHAPE, torch.device(device))


def trained(device):
    """A network that has seen some steps."""
    settings = sgd_settings(epochs=2, batch_size=8, learning_rate=0.05)
    loss = build_loss(entry("ce"))
    return finish(Trainer(network(device), loss, split(48, device), split(12, device, 1), settings, 0)).network


def student(device):
    return build_loss(entry("distillation", temperature=2.0), 3, as_teacher(network(device, 9), "bf16"))


def weighted(device):
    loss = build_loss(entry("ce"))
    loss._class_weights = torch.tensor([0.5, 1.0, 2.0])
    return loss


def online(device):
    return build_loss(entry("online_label_smoothing", soft_weight=0.5), 3)


#: Name -> keys of the settings, and the loss by the device; by default label smoothing.
CASES = {
    "sgd": ({}, None),
    "bf16": ({"precision": "bf16"}, None),
    "clipped": ({"clip_gradient_norm": 0.5}, None),
    "warm-up": ({"lr_schedule": in_steps(2, warmup_epochs=1)}, None),
    "adamw": ({"optimizer": Optimizer("adamw", 1e-3, 1e-2)}, None),
    "muon": ({"optimizer": Optimizer("muon", 1e-3, 1e-2)}, None),
    "recipe": (build_recipe(Recipe(mixup=0.2, cutmix=1.0, ema=0.9, accumulate=2)), None),
    "student": ({}, student),
    "class weights": ({}, weighted),
    "with a memory": ({}, online),
}


@pytest.mark.lengthy
@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("case", CASES)
def test_a_training_is_finite_and_resumed_with_the_same_bits(case, device, configured):
    chosen, loss = CASES[case]
    chosen = {"epochs": 3, "batch_size": 8, "milestones": (2,), "augmentation": "flip_crop"} | chosen
    if "lr_schedule" in chosen:
        chosen.pop("milestones")

    def make():
        own = build_loss(entry("ls", smoothing=0.1)) if loss is None else loss(device)
        splits = split(32, device), split(9, device, 1)
        return Trainer(network(device, dropout=True), own, *splits, sgd_settings(**chosen), 0)

    with warnings.catch_warnings():
        warnings.filterwarnings("error", "training without a CUDA graph")
        whole, resumed = finish(make()), interrupted(make, [2, 5])
    assert weights(whole).isfinite().all()
    assert torch.equal(weights(resumed), weights(whole))
    assert resumed.history == whole.history


@pytest.mark.lengthy
@pytest.mark.parametrize("device", DEVICES)
def test_a_stream_is_trained_and_extracted(device, configured, tmp_path):
    """On a GPU its images come through pinned memory, which another thread fills while a step is recorded."""
    pictures(tmp_path / "pets")
    data = test_stream.load(tmp_path)

    def run(on):
        train, test = test_stream.placed(data, device=torch.device(on))
        settings = sgd_settings(epochs=3, batch_size=4, learning_rate=0.01)
        made = finish(Trainer(network(on), build_loss(entry("ce")), train, test, settings, 0))
        return made, extract_features(made.network, test)

    with warnings.catch_warnings():
        warnings.filterwarnings("error", "training without a CUDA graph")
        made, (features, logits) = run(device)
    reference, expected = run("cpu")
    assert made.history[-1]["loss"] == pytest.approx(reference.history[-1]["loss"], rel=1e-2)
    torch.testing.assert_close(features, expected[0], rtol=1e-2, atol=1e-2)
    assert logits.device.type == "cpu"


@pytest.mark.parametrize("device", DEVICES)
def test_features_and_statistics_are_those_of_a_cpu(device, configured):
    made, data = trained("cpu"), split(60, "cpu")
    expected = extract_features(made, data)
    placed = split(60, device)
    made = place_network(made, SHAPE, torch.device(device))
    passes = Passes(made, placed)
    features, logits = extract_features(made, placed, passes.batch_size, passes.choose())
    torch.testing.assert_close(features, expected[0], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(logits, expected[1], rtol=1e-4, atol=1e-5)

    def statistics(on):
        head = made.head.to(on)
        found = SufficientStatistics(
            data.targets, head.weight, head.bias, clean_labels=data.targets.roll(1), onehot=True
        )
        batches = [(h.to(on), z.to(on)) for h, z in zip(features.split(25), logits.split(25), strict=True)]
        for batch in batches:
            found.add(*batch)
        found.begin_again()
        for batch in batches:
            found.add_again(*batch)
        return found.tensors()

    own = statistics(device)
    for name, value in statistics("cpu").items():
        assert own[name].device.type == device
        torch.testing.assert_close(own[name].cpu(), value, rtol=1e-9, atol=1e-9, equal_nan=True)


@pytest.mark.lengthy
@pytest.mark.parametrize("device", DEVICES)
def test_probes_give_the_numbers_of_a_cpu(device, configured):
    reference = trained("cpu")

    def probed(on):
        made = place_network(reference, SHAPE, torch.device(on))
        train, test = split(48, on), split(24, on, 1)
        other = split(12, on, 2), split(30, on, 3)
        scenes = [Split(one.inputs, (one.inputs[:, 0] > 90).to(torch.uint8), one.mean, one.std) for one in other]
        scenes = [Split(*(one.inputs, one.targets, one.mean, one.std), task="segmentation") for one in scenes]
        cheap = {"epochs": 2, "batch_size": 4, "learning_rate": 1e-2, "channels": 4, "seed": 3}
        shifted = {"classes": (0, 1), "augmentation": "shift", "samples": 20, "draws": 2, "seed": 0}
        assert math.isfinite(logit_information(made, train, **shifted)["mutual_information"])  # the draws are others
        return {
            **sharpness_of_losses(made, train, samples=20, seed=0, loss=build_loss(entry("ls", smoothing=0.1))),
            **gradient_variances(made, train, samples=20, smoothing=0.1, seed=0),
            **layer_measures(made, train, test)["test"],
            **detection(made, train, test, other, held_out=0.5, held_out_seed=0, seed=5),
            "probes": float(len(segmentation(made, train, tuple(scenes), untrained=lambda: network(on, 9), **cheap))),
        }

    expected = probed("cpu")
    assert probed(device) == pytest.approx(expected, rel=2e-2, abs=2e-2, nan_ok=True)


def test_a_recording_lets_other_threads_call(monkeypatch):
    """Images of a stream are put into pinned memory by a thread, which the default refuses while a step is recorded."""
    modes = []

    class Nothing:
        def __getattr__(self, name):
            return lambda *arguments: None

    def recorded(made, capture_error_mode="global"):
        modes.append(capture_error_mode)
        return contextlib.nullcontext()

    for name in ("Stream", "current_stream", "CUDAGraph"):
        monkeypatch.setattr(torch.cuda, name, Nothing)
    monkeypatch.setattr(torch.cuda, "stream", lambda stream: contextlib.nullcontext())
    monkeypatch.setattr(torch.cuda, "graph", recorded)
    graph.record_cuda_graph(lambda: None, [])
    assert modes == ["thread_local"]
