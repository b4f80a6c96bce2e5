"""All options of a recipe together through the stages: trained, interrupted, extracted and measured."""

import json
import signal

import pandas as pd
import pytest
import torch

from nclens.data.prepared import place_splits
from nclens.metrics.collapse import neural_collapse
from nclens.study import load_study
from nclens.workflow import specs
from nclens.workflow.build.models import network_of
from nclens.workflow.epochs import read_epoch, read_weights
from nclens.workflow.files import read_tensors
from nclens.workflow.paths import StudyFolder, path_of
from nclens.workflow.provenance import CLOCK_FIELDS
from nclens.workflow.stages import train as stage
from nclens.workflow.stages.extract import extract
from nclens.workflow.stages.measure import measure
from nclens.workflow.stages.prepare import prepare

pytestmark = pytest.mark.lengthy

OPTIONS = {
    "mixup": {"alpha": 0.2},
    "cutmix": {"alpha": 1.0},
    "ema": {"decay": 0.9},
    "accumulate": 4,
    "stochastic_depth": 0.5,
    "augmentation": "flip_crop",
}


@pytest.fixture
def _handlers():
    """Those of signals, which the stage replaces."""
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture
def made(raw_study, tmp_path):
    """A study with all options, its run under label smoothing, and its prepared data."""
    raw_study["models"]["resnet8"] = {"name": "timm", "builder": "test_resnet"}
    raw_study["experiments"]["smoke"] |= {"losses": ["ls"], "seeds": [0], "snapshots": [0, 1, 2]}
    raw_study["experiments"]["smoke"]["training"] |= {"epochs": 2, "lr_schedule": {"kind": "cosine"}, **OPTIONS}
    study = load_study(raw_study)
    root = StudyFolder(tmp_path / "results" / study.study)
    files = (root.data("mnist5k"), root.manifest("mnist5k"))
    prepare(specs.prepare(study, "mnist5k"), *files)
    (run,) = study.runs()
    return study, run, root, files


def trained(made, folder, stops=()):
    """Train the run in a folder, stopped by a signal after so many steps, each time of the command."""
    study, run, _, files = made

    def once():
        stage.train(specs.train(study, run), "code", *files, folder, threads=1, waited=False)

    for steps in stops:
        left = iter(range(steps - 1))

        class Stopped(stage._Pauses):
            def is_due(self, left=left):
                self.signal = self.signal or (signal.SIGTERM if next(left, None) is None else None)
                return super().is_due()

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(stage, "_Pauses", Stopped)
            with pytest.raises(SystemExit):
                once()
    once()


@pytest.mark.usefixtures("_handlers")
def test_all_options_together_are_trained_resumed_extracted_and_measured(made):
    study, run, root, files = made
    folder = root.run(path_of(run))
    trained(made, folder.folder)
    again = root.run("mnist5k/resnet8/ls/seed7")  # another folder for the same specification
    trained(made, again.folder, stops=[1, 3, 6])
    assert again.snapshots.read_bytes() == folder.snapshots.read_bytes()
    tables = [pd.read_csv(one.history).drop(columns="seconds") for one in (folder, again)]
    pd.testing.assert_frame_equal(*tables, check_exact=True)
    records = [json.loads(one.run.read_text()) for one in (folder, again)]
    for record in records:
        assert record["classifier"] == "its weight is an average over the steps"
        assert record["spec"]["training"]["recipe"] == {
            **{"mixup": 0.2, "cutmix": 1.0, "switch_probability": 0.5, "ema": 0.9, "accumulate": 4}
        }
        assert record["spec"]["model"]["arguments"]["parameters"] == {"drop_path_rate": 0.5}
    assert records[0] | dict.fromkeys(CLOCK_FIELDS) == records[1] | dict.fromkeys(CLOCK_FIELDS)
    extract(specs.extract(study, run), *files, folder.folder, threads=1)
    measure(specs.measure(study, run), folder.folder, threads=1)
    # What is measured are the averaged weights of the snapshot, without stochastic depth, on samples as they are.
    manifest = json.loads(files[1].read_text())
    network = network_of(specs.extract(study, run).model, manifest)
    read_weights(network, folder.snapshots, 2)
    features = read_epoch(folder.features, 2, "extract")[0]
    train_split, _ = place_splits(read_tensors(files[0], "prepare")[0], manifest, torch.device("cpu"))
    with torch.no_grad():
        hidden = network.eval().backbone(train_split.normalise(train_split.inputs))
    torch.testing.assert_close(features["train.features"], hidden, rtol=1e-3, atol=1e-4)
    measured = pd.read_csv(folder.metrics).set_index(["epoch", "split", "metric"])["value"]
    weight, bias = (value.detach().double() for value in (network.head.weight, network.head.bias))
    expected = neural_collapse(hidden.double(), train_split.targets, weight, bias)
    assert measured[2, "train", "nc1"] == pytest.approx(float(expected["nc1"]), rel=1e-3)
