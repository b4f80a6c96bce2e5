"""The catalogue of probes is complete: each kind has a model, a function, metrics, figures and a cost."""

import inspect

import pytest

from nclens.probes.catalogue import PROBES, Size, probe_of
from nclens.study import probes as config
from nclens.study.probes import ProbeBase
from nclens.workflow.build.functions import library_function

ENTRIES = {
    "transfer": {"dataset": "other"},
    "segmentation": {"dataset": "other"},
    "out_of_distribution": {"dataset": "other"},
    "layers": {},
    "sharpness": {},
    "decoding": {},
    "gradient_variance": {},
    "mutual_information": {},
}
SIZE = Size(samples=1000, classes=10, dim=64, own=2000)


@pytest.mark.parametrize("kind", PROBES)
def test_the_function_takes_what_the_stage_gives(kind):
    probe = PROBES[kind]
    model = getattr(config, probe.model)
    keys = set(model.keys()) - set(ProbeBase.keys()) - {"kind"}
    wanted = set(inspect.signature(library_function(probe.function)).parameters)
    given = {"network", "untrained", "train", "test", "validation", "other", "seed", "loss"}
    given |= {"held_out", "held_out_seed", "references", "manifest", "keep"}
    assert wanted - keys <= given
    assert keys - wanted <= {"dataset"}  # given as `other`
    assert ("dataset" in keys) == ("other" in wanted)


@pytest.mark.parametrize("kind", PROBES)
def test_a_cost_is_positive(kind):
    keys = getattr(config, PROBES[kind].model)(kind=kind, **ENTRIES[kind]).model_dump()
    cost = PROBES[kind].cost(keys, SIZE)
    assert cost.passes > 0
    assert cost.operations >= 0


def test_metrics_have_unique_names_and_labels():
    metrics = [metric for probe in PROBES.values() for metric in probe.metrics]
    assert len({metric.name for metric in metrics}) == len(metrics)
    assert all(metric.label for metric in metrics)


def test_every_model_of_a_probe_is_in_the_catalogue():
    models = {
        name
        for name, model in vars(config).items()
        if inspect.isclass(model) and issubclass(model, ProbeBase) and model is not ProbeBase
    }
    assert models - {"CustomProbe"} == {probe.model for probe in PROBES.values()}


def test_an_unknown_kind_is_refused():
    with pytest.raises(
        ValueError,
        match=r"no probe of kind 'spin'; allowed: transfer, segmentation, out_of_distribution, layers, sharpness, "
        "decoding, gradient_variance, mutual_information",
    ):
        probe_of("spin")


def test_the_table_of_losses_has_floor_and_ceiling_of_segmentation_beside_it():
    probe = PROBES["segmentation"]
    shown = [metric.name for metric in probe.metrics if metric.better and metric.name in probe.summarised]
    bounds = ("segmentation_floor_miou", "segmentation_ceiling_miou")
    assert shown == ["segmentation_miou", "segmentation_pixel_accuracy", *bounds]
