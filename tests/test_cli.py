"""The command line: one message for a mistake, exit codes, and the helpers."""

import contextlib
import io
import json
import os
import re
import signal
import sys
from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest

from nclens.cli import main
from nclens.metrics.collapse import KEYS
from tests import process
from tests.project import ROOT


def nclens(*words, cwd=None):
    """Run the command line in this process; what is no message of its own is raised."""
    before, interrupt, code = sys.argv, signal.getsignal(signal.SIGINT), 0
    sys.argv = ["nclens", *map(str, words)]
    with (
        contextlib.chdir(cwd or os.getcwd()),
        contextlib.redirect_stdout(io.StringIO()) as stdout,
        contextlib.redirect_stderr(io.StringIO()) as stderr,
    ):
        try:
            main()
        except SystemExit as end:
            code = end.code or 0
        finally:
            sys.argv = before
            signal.signal(signal.SIGINT, interrupt)
    return SimpleNamespace(returncode=code, stdout=stdout.getvalue(), stderr=stderr.getvalue())


def simplex(classes=4):
    """Features, labels and weights of an exact simplex equiangular tight frame with a little spread."""
    frame = np.eye(classes) - 1 / classes
    labels = np.arange(40) % classes
    features = frame[labels] + 1e-3 * np.random.default_rng(0).standard_normal((40, classes))
    return {"features": features, "labels": labels, "weight": frame, "bias": np.zeros(classes)}


@pytest.mark.parametrize("with_bias", [True, False])
def test_measure_file_prints_every_metric(tmp_path, with_bias):
    arrays = simplex()
    if not with_bias:
        del arrays["bias"]
    np.savez(tmp_path / "features.npz", **arrays)
    done = nclens("measure-file", tmp_path / "features.npz")
    assert done.returncode == 0, done.stderr
    values = {line.split()[0]: float(line.split()[1]) for line in done.stdout.splitlines()}
    assert set(KEYS) <= set(values)
    assert {"ece", "nll", "brier", "accuracy", "nc1_correct", "logit_gap"} <= set(values)
    assert values["accuracy"] == 1
    assert values["nc2"] < 1e-2


@pytest.mark.parametrize(
    ("form", "read"),
    [
        ("--json", lambda text: json.loads(text)["nc1"]),
        ("--csv", lambda text: float(dict(line.split(",") for line in text.splitlines())["nc1"])),
        ("--html", lambda text: float(re.search(r"<td>nc1</td><td>NC1</td><td>(.*?)</td>", text)[1])),
    ],
)
def test_measure_file_prints_other_forms(tmp_path, form, read):
    np.savez(tmp_path / "features.npz", **simplex())
    words = nclens("measure-file", tmp_path / "features.npz").stdout.split()
    done = nclens("measure-file", tmp_path / "features.npz", form)
    assert done.returncode == 0, done.stderr
    assert read(done.stdout) == pytest.approx(float(words[words.index("nc1") + 1]), rel=1e-5)
    both = nclens("measure-file", tmp_path / "features.npz", form, "--html" if form == "--csv" else "--csv")
    assert both.returncode == 2
    assert "one of them is allowed" in both.stderr


@pytest.mark.lengthy
def test_measure_network_prints_one_network_and_what_it_takes_first(tmp_path):
    import torch

    nclens = partial(process.nclens, check=False)

    (tmp_path / "mine.py").write_text(
        "import numpy as np\nfrom torch import nn\n\n"
        "def rows():\n    inputs, labels = np.random.default_rng(0).normal(size=(30, 4)), np.arange(30) % 3\n"
        "    names = ('train_inputs', 'train_targets', 'test_inputs', 'test_targets')\n"
        "    return dict(zip(names, (inputs, labels, inputs, labels)))\n\n"
        "def net(shape, outputs, width=8):\n"
        "    return nn.Sequential(nn.Linear(*shape, width), nn.ReLU(), nn.Linear(width, outputs))\n"
    )
    (tmp_path / "data.yaml").write_text("datasets: {rows: {function: 'mine:rows'}}")
    net = torch.nn.Sequential(torch.nn.Linear(4, 6), torch.nn.ReLU(), torch.nn.Linear(6, 3))
    torch.save(net.state_dict(), tmp_path / "x.pt")
    common = ("measure-network", "x.pt", "--model", "mine:net", "--data", "data.yaml#rows")
    done = nclens(*common, "--normalise", "none", "--parameters", "{width: 6}", "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert "not normalised; epoch 0, test split: error " in done.stderr
    assert found["test"]["error"] == found["train"]["error"]
    other = nclens(*common, "--normalise", "{mean: [0], std: [1]}", cwd=tmp_path)
    assert (other.returncode, "normalise has 1 channels or columns, the inputs have 4" in other.stderr) == (1, True)
    none = nclens(*common, "--normalise", "scaled", cwd=tmp_path)
    assert none.returncode == 1
    assert "experiments.network.normalise = 'scaled': " in none.stderr


def test_measure_file_takes_targets_of_a_regressor(tmp_path):
    targets = np.random.default_rng(0).standard_normal((40, 2))
    np.savez(tmp_path / "features.npz", features=targets, targets=targets, weight=0.5 * np.eye(2))
    done = nclens("measure-file", tmp_path / "features.npz")
    assert done.returncode == 0, done.stderr
    values = {line.split()[0]: float(line.split()[1]) for line in done.stdout.splitlines()}
    assert {"nrc1", "nrc2", "nrc3", "evr", "mse"} <= set(values)
    assert "ece" not in values
    assert values["nrc2"] < 1e-9


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        ({"features": np.ones((4, 2))}, "lacks labels, weight"),
        ({"features": np.ones((4, 2)), "targets": np.ones((4, 2))}, "lacks weight"),
        ({"features": np.ones((4, 2)), "targets": np.ones((4, 2)), "weight": np.eye(2)}, "targets"),
        (simplex() | {"labels": np.arange(40) % 4 + 1}, "labels"),
        (simplex() | {"labels": np.arange(40) % 4 + 0.5}, "labels"),
        (simplex() | {"features": np.full((40, 4), np.nan)}, "finite"),
        (simplex() | {"weight": np.ones((4, 3))}, "weight"),
    ],
)
def test_measure_file_tells_what_is_wrong(tmp_path, arrays, words):
    np.savez(tmp_path / "features.npz", **arrays)
    done = nclens("measure-file", tmp_path / "features.npz")
    assert done.returncode == 1
    assert words in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("content", [None, b"no archive"])
def test_measure_file_of_no_archive(tmp_path, content):
    if content:
        (tmp_path / "x.npz").write_bytes(content)
    done = nclens("measure-file", tmp_path / "x.npz")
    assert done.returncode == 1
    assert ("x.npz is no .npz" if content else "x.npz does not exist") in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("command", ["retry", "forget"])
def test_a_folder_that_is_not_there_is_told(tmp_path, command):
    done = nclens(command, tmp_path / "typo")
    assert done.returncode == 1
    assert "there is no folder" in done.stderr
    assert "typo" in done.stderr


def test_nothing_to_try_again_is_said(tmp_path):
    done = nclens("retry", tmp_path)
    assert (done.returncode, "nothing to try again" in done.stdout) == (0, True)


def test_check_counts_the_runs_or_names_the_mistakes(tmp_path):
    import yaml

    study = {
        "study": "s",
        "datasets": {"mnist5k": {"source": "mnist5k"}},
        "models": {"resnet8": {"name": "resnet8"}},
        "losses": {"ce": {"name": "ce"}},
        "experiments": {
            "e": {
                "dataset": "mnist5k",
                "model": "resnet8",
                "losses": ["ce"],
                "seeds": [0, 1],
                "training": {"epochs": 2, "batch_size": 9},
            }
        },
    }
    (tmp_path / "good.yaml").write_text(yaml.safe_dump(study))
    good = nclens("check", "good.yaml", cwd=tmp_path)
    assert (good.returncode, "runs: 2, experiments: 1" in good.stdout) == (0, True)
    (tmp_path / "bad.yaml").write_text(yaml.safe_dump(study | {"extra": 1}))
    bad = nclens("check", "bad.yaml", cwd=tmp_path)
    assert bad.returncode == 1
    assert "unknown key `extra`" in bad.stderr
    (tmp_path / "torn.yaml").write_text("{")
    assert "is no YAML" in nclens("check", "torn.yaml", cwd=tmp_path).stderr


def test_check_says_one_message_with_file_and_line(tmp_path):
    path = tmp_path / "study.yaml"
    for text, message in (("a: &a [*a]", "line 1: the alias"), ("study: !!bool foo", "line 1: `foo` is neither")):
        path.write_text(text)
        done = nclens("check", path)
        assert (done.returncode, done.stdout) == (1, "")
        assert re.fullmatch(rf"nclens check: {re.escape(str(path))}, {message}.*\n", done.stderr)


def test_the_schema_is_json():
    assert json.loads(nclens("schema").stdout)["additionalProperties"] is False


def test_a_specification_that_is_no_json():
    done = nclens("resolve", "--spec", "{", "--output", "x")
    assert done.returncode == 2
    assert "no JSON" in done.stderr


def test_help_has_the_commands_for_people_first_and_the_stages_below(monkeypatch):
    from typer.testing import CliRunner

    from nclens.cli import STAGES, app

    monkeypatch.setenv("COLUMNS", "100")
    shown = CliRunner().invoke(app, ["--help"])
    people, stages = shown.stdout.split(STAGES)
    stems = {path.stem for path in (ROOT / "src/nclens/workflow/stages").glob("*.py")} - {"__init__"}
    rows = {
        part: re.findall(r"^│ ([a-z][a-z-]*) ", text, re.M) for part, text in (("people", people), ("stages", stages))
    }
    assert rows["people"][:7] == ["init", "run", "check", "show", "power", "measure-file", "measure-network"]
    assert stems <= set(rows["stages"])
    assert not stems & set(rows["people"])


def test_the_version_is_that_of_the_package_and_of_its_citation():
    import nclens as package

    done = nclens("--version")
    assert (done.returncode, done.stdout) == (0, f"nclens {package.__version__}\n")
    for file in ("pyproject.toml", "CITATION.cff"):
        assert re.search(r'^version(?: = |: )"?([\d.]+)"?$', (ROOT / file).read_text(), re.M)[1] == package.__version__


@pytest.mark.parametrize(
    "words",
    [
        *(([name, ""]) for name in ("init", "check", "show", "power", "retry", "forget", "pack", "unpack")),
        *(([name, "results/digits", "--to", ""]) for name in ("export", "pack", "unpack", "film")),
        ["export", "", "--to", "paper"],
    ],
)
def test_an_empty_path_is_not_the_current_folder(words, tmp_path, monkeypatch):
    from typer.testing import CliRunner

    from nclens.cli import app

    monkeypatch.chdir(tmp_path)
    (tmp_path / "mlflow.json").touch()  # which `forget` would delete
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 2
    assert "is empty; allowed: a path" in done.output
    assert [path.name for path in tmp_path.iterdir()] == ["mlflow.json"]
