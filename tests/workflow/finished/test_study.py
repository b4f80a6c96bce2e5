"""A finished study in Python: tables, figures, networks and features are those of its files; what is not there."""

import re
import shutil
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
import torch
import yaml

import nclens
from nclens.figures.style import encode
from nclens.study import ConfigError
from nclens.study import load_study as check
from nclens.workflow import specs, tables
from nclens.workflow.epochs import read_epoch
from nclens.workflow.files import FileError
from nclens.workflow.paths import StudyFolder
from nclens.workflow.stages.draw import draw


@pytest.fixture
def study(digits):
    return nclens.load_study(digits)


@pytest.fixture
def other(mixed):
    return nclens.load_study(mixed)


@pytest.fixture
def copied(digits, tmp_path):
    """A copy of a study's results, to change."""
    shutil.copytree(digits, tmp_path / "results" / "digits")
    return tmp_path / "results" / "digits"


# --- tables ----------------------------------------------------------------------------------------------------------


def test_metrics_are_tidy_and_their_names_are_text(study, digits):
    stored = pd.read_parquet(digits / "metrics.parquet")
    assert list(study.metrics) == [
        "experiment",
        "dataset",
        "model",
        "loss",
        "seed",
        "split",
        "epoch",
        "metric",
        "value",
    ]
    assert len(study.metrics) == len(stored)
    assert not any(isinstance(kind, pd.CategoricalDtype) for kind in study.metrics.dtypes)
    one = study.metrics.query("loss == 'ls' and seed == 1 and split == 'train' and epoch == 3 and metric == 'nc1'")
    of_run = pd.read_csv(digits / "blobs" / "mlp" / "ls" / "seed1" / "metrics.csv")
    assert one["value"].item() == of_run.query("split == 'train' and epoch == 3 and metric == 'nc1'")["value"].item()
    # A selection of rows has groups of its own names alone.
    assert list(study.metrics.query("loss == 'ce'").groupby("loss").groups) == ["ce"]


def test_the_history_has_a_row_a_run_split_and_epoch(study, other):
    history = study.history
    assert len(history) == 2 * 2 * 2 * 4
    assert history.query("split == 'test' and epoch == 4 and loss == 'ce' and seed == 0")["epoch_error"].item() == 1 / 4
    assert {"epoch_loss", "epoch_cross_entropy", "learning_rate", "epoch_seconds"} <= set(history)
    # Networks trained elsewhere have no history.
    assert set(other.history["experiment"]) == {"first", "values"}
    assert other.history.query("experiment == 'values'")["epoch_mse"].notna().all()


def test_claims_losses_and_theory_are_the_tables_of_the_study(study, digits):
    assert len(study.claims) == len((digits / "claims.csv").read_text().splitlines()) - 1
    assert set(study.claims["level"]) == {"claim", "measure"}
    assert set(study.losses["loss"]) == {"ce", "ls"}
    assert set(study.theory) == {"ufm", "dynamics", "regression", "predictions", "effective", "nc0"}
    assert set(study.theory["ufm"]["loss"]) == {"ce", "ls"}
    assert study.config == yaml.safe_load((digits / "study.yaml").read_text())
    assert study.labels == {"ce": "CE", "ls": "LS <0.1>"}


def test_experiments_and_runs_are_listed(study, other, digits):
    assert study.experiments.to_dict("records")[0] == {
        **{"experiment": "digits", "dataset": "blobs", "models": ["mlp"], "losses": ["ce", "ls"], "seeds": [0, 1]},
        "figures": study.figures,
    }
    assert list(study.runs["epochs"]) == [[1, 3, 4]] * 4
    assert study.runs["folder"].iloc[-1] == str(digits / "blobs" / "mlp" / "ls" / "seed1")
    assert list(other.experiments["experiment"]) == ["first", "values", "elsewhere", "recorded"]
    assert other.runs.set_index("experiment").loc[["elsewhere", "recorded"], "epochs"].tolist() == [[1, 2], [1, 2]]


# --- figures ---------------------------------------------------------------------------------------------------------


@pytest.mark.lengthy
def test_a_figure_is_that_of_the_workflow(study, digits, tmp_path):
    of, (experiment,) = StudyFolder(digits), specs.draw(study.checked).experiments
    shutil.copytree(digits, tmp_path, dirs_exist_ok=True)
    only = specs.Draw((specs.DrawExperiment(**vars(experiment) | {"figures": ("norms",)}),))
    more = {name: of.theory(name) for name in ("dynamics", "predictions", "regression", "nc0")}
    draw(only, of.metrics, of.theory("ufm"), tmp_path, **more)
    figure, made = study.figure("norms"), {path.suffix: path.read_bytes() for path in tmp_path.glob("figures/*")}
    assert encode(figure, "svg") == made[".svg"]
    assert figure._repr_png_() == made[".png"]
    assert study.figure_data("norms").to_csv(index=False, lineterminator="\n").encode() == made[".csv"]


def test_a_figure_of_the_users_own_leaves_pyplot_as_it_was(other):
    mpl.use("svg")
    figure = other.figure("mine")
    assert mpl.get_backend() == "svg"
    assert figure._repr_png_().startswith(b"\x89PNG")
    rows = other.metrics.query("experiment == 'first'").head(3)
    assert other.figure_data("mine").to_dict("list") == rows.to_dict("list")
    assert mpl.pyplot.get_fignums() == []


def test_a_figure_of_several_experiments_is_chosen(other):
    assert "norms" in other.figures
    having = ["first", "elsewhere", "recorded"]
    with pytest.raises(ValueError, match="figure norms is in several experiments.* `experiment`: " + ", ".join(having)):
        other.figure("norms")
    assert set(other.figure_data("norms", "elsewhere")["loss"]) == {"ce"}
    with pytest.raises(ValueError, match="experiment = 'values': it has no figure norms; allowed: first, elsewhere"):
        other.figure("norms", "values")
    with pytest.raises(
        ValueError, match="experiment = 'none': the study mixed has: first, values, elsewhere, recorded"
    ):
        other.figure("norms", "none")
    with pytest.raises(ValueError, match=r"has no figure curves; it has: .*norms.*mine"):
        other.figure("curves")


# --- networks, features and data -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("loss", "experiment", "split", "kept"),
    [("ce", "first", "test", False), ("l2", "values", "train", True), ("ce", "elsewhere", "test", True)],
)
def test_a_network_makes_the_features_and_logits_of_its_run(other, loss, experiment, split, kept):
    run = other.runs.query("loss == @loss and seed == 0 and experiment == @experiment")
    epoch = run["epochs"].item()[0]
    file = Path(run["folder"].item(), "features.safetensors")
    keys = {"seed": 0, "epoch": epoch, "experiment": experiment}
    found, network = other.features(loss, split=split, **keys), other.network(loss, **keys)
    data = other.data(split, dataset=run["dataset"].item())
    assert not network.training
    with torch.no_grad():
        torch.testing.assert_close(network.backbone(data.inputs), found.features)
        torch.testing.assert_close(network(data.inputs), found.logits)
    assert found.labels.equal(data.labels)
    if kept:
        assert found.features.equal(read_epoch(file, epoch, "extract")[0][f"{split}.features"])
    else:
        with pytest.raises(FileError, match="lacks epoch 1"):
            read_epoch(file, epoch, "extract")


def test_features_that_were_not_kept_are_those_that_extraction_made(other, mixed, tmp_path):
    shutil.copytree(mixed, tmp_path, dirs_exist_ok=True)
    shutil.copy(mixed.parents[1] / "parts.py", tmp_path)
    stored = other.features("ce", seed=1, experiment="first")
    again = nclens.load_study(tmp_path, [tmp_path])
    Path(again.runs.query("loss == 'ce' and seed == 1")["folder"].item(), "features.safetensors").unlink()
    for one, two in zip(again.features("ce", seed=1, epoch=4, experiment="first"), stored, strict=True):
        assert one.equal(two)


def test_recorded_features_have_logits_and_no_network(other):
    features, labels, logits = other.features("kept", epoch=1, split="train")
    arrays = np.load(other.folder.parents[1] / "kept1.npz")
    assert np.array_equal(features.numpy(), arrays["train_features"])
    assert labels.tolist() == arrays["train_labels"].tolist()
    np.testing.assert_allclose(logits, arrays["train_features"] @ arrays["weight"].T, rtol=1e-5, atol=1e-5)
    with pytest.raises(ValueError, match="recorded without a network"):
        other.network("kept")


def test_defaults_are_the_first_seed_and_the_last_epoch(study):
    assert study.features("ce").features.equal(study.features("ce", seed=0, epoch=4, split="train").features)
    assert not study.features("ce").features.equal(study.features("ce", epoch=3).features)
    state = torch.get_rng_state()
    study.network("ls", seed=1)
    assert torch.get_rng_state().equal(state)


def test_data_are_normalised(study):
    inputs, labels = study.data()
    torch.testing.assert_close(inputs.mean(0), torch.zeros(5), atol=1e-5, rtol=0)
    assert (inputs.shape, labels.tolist()[:4]) == ((60, 5), [0, 1, 2, 0])
    assert study.data("test").inputs.equal(study.data(split="test", dataset="blobs").inputs)
    assert len(study.data("test").labels) == 30
    assert study.manifest("blobs")["classes"] == ["<b>", "b", "c"]


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda one: one.network("focal"), "the study mixed has no loss focal; it has: ce, l2, kept"),
        (
            lambda one: one.network("ce"),
            "loss ce is in several experiments; choose one by `experiment`: first, elsewhere",
        ),
        (lambda one: one.network("ce", seed=7, experiment="first"), "seed = 7: allowed: 0, 1"),
        (lambda one: one.network("ce", epoch=2, experiment="first"), "epoch = 2: allowed: 1, 3, 4"),
        (lambda one: one.features("l2", split="val"), "split = 'val': allowed: train, test"),
        (lambda one: one.data(), "the study mixed has several data sets; choose one by `dataset`: blobs, line"),
        (lambda one: one.data("val", dataset="line"), "split = 'val': allowed: train, test"),
        (lambda one: one.data("blobs"), "split = 'blobs': is a data set, which `dataset` chooses"),
        (lambda one: one.data(dataset="mnist"), "dataset = 'mnist': allowed: blobs, line"),
    ],
)
def test_what_is_not_there_is_named_with_what_is(other, call, said):
    with pytest.raises(ValueError, match=re.escape(said)):
        call(other)


# --- how it shows itself ---------------------------------------------------------------------------------------------


def test_a_study_shows_its_experiments_and_verdicts_and_escapes_all_text(study):
    shown = study._repr_html_()
    assert "Digits &amp; &lt;i&gt;more&lt;/i&gt;" in shown
    assert "LS &lt;0.1&gt; against CE" in shown
    assert not re.search(r"<(?!/?(?:div|b|br|code|table|thead|tbody|tr|th|td|p)\b)", shown)
    verdicts = study.claims.query("level == 'claim'")["verdict"]
    assert len(re.findall(r"<b style", shown)) == len(verdicts)
    assert repr(study) == f"<study digits in {study.folder}: experiments digits; losses ce, ls>"


# --- unfinished studies, other folders, and where things are ----------------------------------------------------------


def test_a_folder_that_is_no_study_says_what_is(tmp_path, monkeypatch, copied):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(FileError, match=r"nothing is no study's folder, such as results/digits"):
        nclens.load_study("nothing")
    with pytest.raises(FileError, match=r"results is no study's folder, such as results/digits"):
        nclens.load_study("results")  # the one in it has no page
    with pytest.raises(FileError, match=r"digits is no study's folder; the results are in results/digits$"):
        nclens.load_study("digits")
    (copied / "report.html").touch()
    Path("results", "mine").mkdir()
    Path("results", "mine", "study.yaml").write_text("study: mine\n")
    for folder in ("results", "."):
        with pytest.raises(FileError, match=r" is no study's folder; studies in it: results/digits$"):
            nclens.load_study(folder)
    shutil.rmtree("results/mine")
    with pytest.raises(FileError, match=r"study.yaml is a file; allowed: the folder of a study's results"):
        nclens.load_study(copied / "study.yaml")
    Path("studies").mkdir()
    Path("studies", "mine.yaml").write_text("study: mine\n")
    with pytest.raises(FileError, match=r"no results yet.*`nclens run studies/mine.yaml`"):
        nclens.load_study("results/mine")
    monkeypatch.chdir("results")
    with pytest.raises(FileError, match=r"`cd .. && nclens run studies/mine.yaml` makes them"):
        nclens.load_study("mine")
    content = (copied / "study.yaml").read_text()
    (copied / "study.yaml").write_text("study: digits\nexperiments: [1]\nlosses: {}\n")
    with pytest.raises(FileError, match=r"study.yaml is damaged \(it is no resolved study\)"):
        nclens.load_study(copied)
    (copied / "metrics.parquet").unlink()
    (copied / "study.yaml").write_text(content[: len(content) // 2])
    with pytest.raises(FileError, match=r"study.yaml is damaged .*the rule `resolve` makes it again"):
        nclens.load_study(copied)


@pytest.mark.parametrize("text", ["study: digits\n", "study: digits\nlosses: {\n", "a: 1\n", None])
def test_no_message_asks_to_delete_a_configuration(text, copied, tmp_path, monkeypatch):
    """`study.yaml` in a project's folder is the user's own, even where it is a copy of a resolved one."""
    monkeypatch.chdir(tmp_path)
    resolved = (copied / "study.yaml").read_text()
    Path("study.yaml").write_text(resolved if text is None else text)
    named = text is None or text == "study: digits\n"
    for folder in (".", Path.cwd()):
        with pytest.raises(FileError, match="is no study's folder") as said:
            nclens.load_study(folder)
        assert "delete it" not in str(said.value)
        assert (f"; its results are in {Path(folder, 'results', 'digits')}" in str(said.value)) == named
    if named:
        shutil.rmtree("results")
        Path("study.yaml").write_text("study: digits\n")
        with pytest.raises(FileError, match=r"will be in results/digits: `nclens run study\.yaml` makes them"):
            nclens.load_study(".")


@pytest.mark.parametrize("folder", [None, "", b"results", 3, "~nobody_at_all/results"])
def test_what_is_no_path_of_a_folder(folder, digits):
    with pytest.raises(ValueError, match=re.escape(f"folder = {folder!r}: ")):
        nclens.load_study(folder)
    with pytest.raises(ValueError, match=re.escape(f"folders = {folder!r}: ")):
        nclens.load_study(digits, folder)


def test_folders_that_are_not_there_are_named(digits, tmp_path):
    with pytest.raises(FileError, match=r"folders: there is no folder /no/code, nothing$"):
        nclens.load_study(digits, folders=[tmp_path, "/no/code", "nothing"])


def test_a_study_that_has_not_run_to_its_end_names_the_command(digits, copied, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("digits.yaml").write_text("study: digits\n")
    shutil.copy(digits.parents[1] / "parts.py", tmp_path)
    study = nclens.load_study("results/digits")
    finishes = r"is missing: the study has not run to its end; `nclens run digits.yaml` finishes"
    for file, call in {
        "claims.csv": lambda: study.claims,
        "metrics.parquet": lambda: study.metrics,
        "theory/nc0.csv": lambda: study.figure("norms"),
        "blobs/mlp/ce/seed0/snapshots.safetensors": lambda: study.network("ce"),
        "blobs/mlp/ls/seed1/run.json": lambda: study.runs,
        "data/blobs.json": lambda: study.data(),
    }.items():
        (copied / file).unlink()
        with pytest.raises(FileError, match=f"{file} {finishes}" if file != "theory/nc0.csv" else finishes):
            call()
    assert "has not run to its end" in study._repr_html_()


def test_modules_of_the_studys_own_are_found_from_another_folder_or_named(mixed, tmp_path, monkeypatch):
    elsewhere, study = tmp_path / "moved" / "results" / "mixed", None
    shutil.copytree(mixed, elsewhere)
    monkeypatch.chdir(tmp_path)
    study = nclens.load_study("moved/results/mixed")
    assert len(study.metrics)  # tables need no module
    assert study.features("l2").features.shape == (40, 6)
    with pytest.raises(ConfigError, match=r"parts:net: there is no file parts.py or moved/parts.py"):
        study.figure("mine")
    (tmp_path / "code").mkdir()
    shutil.copy(mixed.parents[1] / "parts.py", tmp_path / "code")
    found = nclens.load_study("moved/results/mixed", ["code"])
    assert len(found.figure_data("mine")) == 3  # the checkpoints are gone, and not needed
    assert found.network("ce", epoch=1, experiment="elsewhere").head.out_features == 3


def test_runs_of_another_study_are_read_where_they_are(study, digits, tmp_path, monkeypatch):
    project = tmp_path / "project"
    shutil.copytree(digits, project / "results" / "digits")
    shutil.copy(digits.parents[1] / "parts.py", project)
    reused = [{"study": "results/digits", "experiment": "digits", "loss": "ls"}]
    raw = study.config | {"study": "mine", "title": "", "figures": {}}
    raw["experiments"]["digits"] |= {"losses": ["ce", *reused], "figures": ["norms"]}
    del raw["losses"]["ls"]
    monkeypatch.chdir(project)
    of = StudyFolder(Path("results", "mine"))
    of.root.mkdir()
    of.resolved.write_text(yaml.safe_dump(check(raw, [project]).resolved()))
    shutil.copytree(digits / "data", of.root / "data")
    (tmp_path / "notebooks").mkdir()
    monkeypatch.chdir(tmp_path / "notebooks")
    mine = nclens.load_study("../project/results/mine")
    assert mine.features("ls", seed=1).features.equal(study.features("ls", seed=1).features)
    assert mine.network("ls").head.weight.equal(study.network("ls").head.weight)
    assert mine.labels["ls"] == "LS <0.1>"
    assert tables.LOSSES.made_by == "report"
