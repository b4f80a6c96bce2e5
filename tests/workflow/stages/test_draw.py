from dataclasses import replace

import pandas as pd
import pytest
import torch
from scipy.stats import gmean

from nclens.figures.inputs import means_of
from nclens.report import picture
from nclens.workflow import specs, tables
from nclens.workflow.build.figures import draw_figure
from nclens.workflow.files import FileError
from nclens.workflow.paths import ENDINGS, RunFolder
from nclens.workflow.stages import draw as stage
from tests.epochs import read_all, write_all

pytestmark = pytest.mark.lengthy

FIGURES = ("reliability", "ufm_conditioning")


def whole(frame, table):
    """A table with all its columns, 0 and "" where the simulation has none."""
    kinds = {name: "" if kind is str else 0 for name, kind in table.columns.items() if name not in frame}
    return frame.assign(**kinds)[list(table.columns)]


def draw(experiments, threads=1, own=(), **files):
    """Run the stage."""
    stage.draw(specs.Draw(tuple(experiments), tuple(own)), **files, threads=threads)


@pytest.fixture
def study(simulate, tmp_path):
    """A study on disk with two experiments, and the arguments of the stage."""
    measured, theories, experiments = [], [], []
    for name, model in (("first", "tiny"), ("second", "small")):
        inputs = simulate(seeds=(0, 1))
        measured.append(inputs.metrics.assign(experiment=name, dataset="digits", model=model))
        theories.append(inputs.theory.assign(experiment=name, dataset="digits", model=model))
        experiments.append(
            specs.DrawExperiment(
                experiment=name,
                dataset="digits",
                model=model,
                losses=tuple(inputs.losses),
                seeds=(0, 1),
                epochs=60,
                task="classification",
                figures=FIGURES,
                baseline="ce",
                labels=inputs.labels,
                colours=inputs.colours,
                first_epoch=60,
                weight_decays={},
                regularised=False,
            )
        )
        for loss in inputs.losses:
            for seed in (0, 1):
                arrays = inputs.last_features(loss, seed)
                run = RunFolder(tmp_path / "digits" / model / loss / f"seed{seed}")
                write_all(run.features, {60: {name: torch.from_numpy(array) for name, array in arrays.items()}})
    (tmp_path / "theory").mkdir()
    metrics, theory = tmp_path / "metrics.parquet", tmp_path / "theory" / "ufm.csv"
    # Categories, as in the real table.
    pd.concat(measured).astype(dict.fromkeys(("experiment", "loss", "split", "metric"), "category")).to_parquet(metrics)
    tables.write(tables.THEORY, theory, whole(pd.concat(theories), tables.THEORY))
    return {
        "experiments": experiments,
        "metrics": metrics,
        "theory": theory,
        "root": tmp_path,
    }


def test_writes_every_figure_in_every_form_and_nothing_else(study):
    draw(**study)
    expected = {f"{name}_{stem}.{kind}" for name in ("first", "second") for stem in FIGURES for kind in ENDINGS}
    assert {path.name for path in study["root"].joinpath("figures").iterdir()} == expected
    table = pd.read_csv(study["root"] / "figures" / "first_reliability.csv")
    assert table.groupby(["loss", "scaling"])["count"].sum().tolist() == [2 * 600] * 4


@pytest.mark.parametrize("threads", [1, 3])
def test_again_the_same_bytes_whatever_the_threads(study, threads):
    study["experiments"] = study["experiments"][:1]
    draw(**study)
    first = {path.name: path.read_bytes() for path in study["root"].joinpath("figures").iterdir()}
    draw(**study, threads=threads)
    assert {path.name: path.read_bytes() for path in study["root"].joinpath("figures").iterdir()} == first


def test_the_specification_curve_is_drawn_from_the_comparisons_of_its_experiment(study):
    facts = {"experiment": "first", "dataset": "digits", "model": "tiny", "losses": ("ce", "ls"), "seeds": (0, 1)}
    compared = {"kinds": {"ce": "ce", "ls": "ls"}, "strengths": {"ce": None, "ls": 0.05}, "baseline": "ce"}
    judged = specs.JudgeExperiment(
        **facts, epochs=60, task="classification", **compared, weight_decays={}, regularised=False
    )
    first = replace(study["experiments"][0], figures=("specification_curve",), judged=judged)
    draw(**study | {"experiments": [first]})
    table = pd.read_csv(study["root"] / "figures" / "first_specification_curve.csv")
    assert set(table["claim"]) == {"C1", "C2", "C3"}  # the simulation has no ECE of 15 bins
    own = table[table["own"]].set_index("claim")["effect"]
    metrics = pd.read_parquet(study["metrics"]).query("experiment == 'first' and epoch == 60 and split == 'train'")
    nc1 = metrics[metrics["metric"] == "nc1"].pivot(index="seed", columns="loss", values="value")
    assert own["C2"] == pytest.approx(gmean(nc1["ls"] / nc1["ce"]))


def test_an_unknown_figure_is_refused_before_anything_is_drawn(study):
    study["experiments"][1] = replace(study["experiments"][1], figures=("reliabilty",))
    with pytest.raises(ValueError, match="unknown figures of second: reliabilty; allowed: collapse_curves"):
        draw(**study)
    assert not study["root"].joinpath("figures").exists()


@pytest.mark.parametrize("threads", [1, 2])
def test_a_figure_that_fails_names_itself(study, threads):
    path = RunFolder(study["root"] / "digits" / "tiny" / "ls" / "seed1").features
    write_all(path, {60: {"test.logits": torch.full((2, 10), torch.nan), "test.targets": torch.tensor([0, 1])}})
    with pytest.raises(ValueError, match=r"figure first_reliability cannot be drawn: ValueError: .*must not be nan"):
        draw(**study, threads=threads)
    assert not list(study["root"].glob("figures/first_reliability*"))
    assert not list(study["root"].glob("figures/.*"))


@pytest.mark.parametrize("threads", [1, 2])
def test_damaged_features_are_named_with_the_rule_that_makes_them(study, threads):
    path = RunFolder(study["root"] / "digits" / "tiny" / "ls" / "seed1").features
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(FileError, match=r"seed1/features.safetensors is damaged .*`extract`"):
        draw(**study, threads=threads)


@pytest.mark.parametrize(("name", "rule"), [("metrics", "collect"), ("theory", "theory")])
def test_missing_and_damaged_tables_are_named(study, name, rule):
    study[name].write_bytes(b"\x00")
    with pytest.raises(FileError, match=rf"{study[name].name} is damaged .*`{rule}`"):
        draw(**study)
    study[name].unlink()
    with pytest.raises(FileError, match=rf"{study[name].name} is missing: the rule `{rule}` makes it"):
        draw(**study)


def write_theory(study):
    """The tables of the dynamics and of the predictions, and the smoothings of the experiments."""
    from tests.figures.simulate import simulate

    inputs, folder = simulate(seeds=(0, 1, 2)), study["root"] / "theory"
    tables.write(tables.DYNAMICS, folder / "dynamics.csv", whole(inputs.dynamics, tables.DYNAMICS))
    named = [inputs.predictions.assign(experiment=name) for name in ("first", "second")]
    named[1]["predicted"] *= 2
    tables.write(tables.PREDICTIONS, folder / "predictions.csv", whole(pd.concat(named), tables.PREDICTIONS))
    figures, smoothings = ("smoothing_calibration", "ufm_dynamics"), {"ce": 0.0, "ls": 0.05}
    study["experiments"] = [replace(item, figures=figures, smoothings=smoothings) for item in study["experiments"]]
    study["dynamics"], study["predictions"] = folder / "dynamics.csv", folder / "predictions.csv"
    return inputs


def test_dynamics_and_predictions_reach_their_figures(study):
    inputs = write_theory(study)
    draw(**study)
    folder = study["root"] / "figures"
    own = inputs.predictions[(inputs.predictions["quantity"] == "logit_gap") & (inputs.predictions["seed"] < 2)]
    for name, factor in (("first", 1), ("second", 2)):
        table = pd.read_csv(study["root"] / "figures" / f"{name}_smoothing_calibration.csv")
        line = table[(table["source"] == "predicted, effective") & (table["metric"] == "logit_gap")]
        line = means_of(line)
        means = own.groupby("smoothing")["predicted"].agg(gmean)  # geometric: the axis is logarithmic
        assert line["mean"].tolist() == pytest.approx((factor * means).tolist())
        assert set(line["seeds"]) == {2}
        assert set(pd.read_csv(folder / f"{name}_ufm_dynamics.csv")["distance"]) >= {
            "orbit",
            "logits",
        }


def test_without_dynamics_predictions_and_smoothings_the_figures_are_drawn_empty(study):
    study["experiments"] = [replace(study["experiments"][0], figures=("smoothing_collapse", "ufm_dynamics"))]
    draw(**study)
    for stem in ("smoothing_collapse", "ufm_dynamics"):
        assert pd.read_csv(study["root"] / "figures" / f"first_{stem}.csv").empty


@pytest.mark.parametrize(("name", "rule"), [("dynamics", "theory"), ("predictions", "predict")])
def test_missing_and_foreign_theory_tables_are_named(study, name, rule):
    write_theory(study)
    study[name].write_text("a,b\n1,2\n", encoding="utf-8")
    with pytest.raises(FileError, match=rf"{name}.csv is damaged .*`{rule}`"):
        draw(**study)
    study[name].unlink()
    with pytest.raises(FileError, match=rf"{name}.csv is missing: the rule `{rule}` makes it"):
        draw(**study)


@pytest.fixture
def regression(tmp_path):
    """A regression with the model's penalties on disk, and the arguments of the stage."""
    from tests.figures.simulate_regression import simulate

    inputs = simulate(regularised=True, seeds=(0, 1, 2))
    folder = tmp_path / "reacher" / "mlp" / "ufm"
    for seed in (0, 1, 2):
        epochs = {0: inputs.first_features("ufm", seed), 400: inputs.last_features("ufm", seed)}
        write_all(
            RunFolder(folder / f"seed{seed}").features,
            {epoch: {name: torch.from_numpy(array) for name, array in epochs[epoch].items()} for epoch in epochs},
        )
    (tmp_path / "theory").mkdir()
    paths = {name: tmp_path / "theory" / f"{name}.csv" for name in ("ufm", "predictions", "regression")}
    tables.write(tables.THEORY, paths["ufm"], whole(inputs.theory, tables.THEORY))
    tables.write(tables.PREDICTIONS, paths["predictions"], whole(inputs.predictions, tables.PREDICTIONS))
    other = inputs.regression.assign(experiment="other", lambda_w=7.0)
    both = pd.concat([inputs.regression, other])
    tables.write(tables.REGRESSION, paths["regression"], whole(both, tables.REGRESSION))
    tables.write(tables.COLLECTED, tmp_path / "metrics.parquet", whole(inputs.metrics, tables.COLLECTED))
    experiment = specs.DrawExperiment(
        experiment="reacher",
        dataset="reacher",
        model="mlp",
        losses=("ufm",),
        seeds=(0, 1, 2),
        epochs=400,
        task="regression",
        figures=("nrc_curves", "nrc_gram", "residuals"),
        baseline=None,
        labels={"ufm": "UFM"},
        colours={"ufm": "#440154"},
        first_epoch=0,
        weight_decays={"ufm": 0.0},
        regularised=True,
    )
    given = {"experiments": [experiment], "metrics": tmp_path / "metrics.parquet", "theory": paths.pop("ufm")}
    return inputs, {**given, **paths, "root": tmp_path}


def test_figures_of_regression_are_those_of_the_inputs(regression):

    inputs, study = regression
    draw(**study)
    for stem in ("nrc_curves", "nrc_gram", "residuals"):
        written = pd.read_csv(study["root"] / "figures" / f"reacher_{stem}.csv")
        expected = draw_figure(stem, inputs).table.reset_index(drop=True)
        pd.testing.assert_frame_equal(written, expected, check_dtype=False, check_categorical=False)


def test_first_features_that_were_not_kept_are_left_out(regression):
    _, study = regression
    for path in study["root"].rglob("features.safetensors"):
        write_all(path, read_all(path, (400,), "extract"))
    study["experiments"] = [replace(study["experiments"][0], figures=("residuals",))]
    draw(**study)
    assert set(pd.read_csv(study["root"] / "figures" / "reacher_residuals.csv")["what"]) == {"last"}


def test_seeds_of_other_studies_are_not_drawn(study):
    study["experiments"] = [replace(study["experiments"][1], seeds=(1,), figures=("reliability",))]
    draw(**study)
    table = pd.read_csv(study["root"] / "figures" / "second_reliability.csv")
    assert set(table["seeds"]) == {1}


MINE = """
import pandas as pd
from matplotlib import pyplot
from matplotlib.figure import Figure


def curves(metrics, losses, labels, colours, experiment, level=0.0):
    figure, (left, right) = pyplot.subplots(1, 2)
    for loss in losses:
        rows = metrics[(metrics["loss"] == loss) & (metrics["metric"] == "error")]
        left.plot(rows["epoch"], rows["value"], color=colours[loss], label=labels[loss])
    left.axhline(level)
    left.legend()
    right.twinx()
    figure.suptitle(experiment)
    figure.supxlabel("epoch")
    return figure


def with_table(metrics, last_features):
    figure = Figure()
    figure.subplots().bar(["a"], [len(last_features("ce", 0)["test.targets"])])
    return figure, pd.DataFrame({"n": [7]})


def axes(metrics):
    return pyplot.subplots()[1]


def nothing(metrics): ...


def raising(metrics):
    return metrics["no such column"]


def unreadable(metrics):
    figure = Figure()
    figure.suptitle("$\\\\nothing$")
    return figure
"""


def own_figure(study, name, **arguments):
    """The arguments of the stage for one figure of the user's own in the first experiment."""
    file = study["root"] / "mine.py"
    file.write_text(MINE)
    entry = specs.OwnFigure("mine", f"mine:{name}", str(file), arguments)
    return study | {"experiments": [replace(study["experiments"][0], figures=("mine",))], "own": [entry]}


def test_a_figure_of_the_users_own_is_written_in_every_form(study):
    from matplotlib import pyplot

    given = own_figure(study, "curves", level=0.25)
    draw(**given)
    folder = study["root"] / "figures"
    assert {path.name for path in folder.iterdir()} == {f"first_mine.{kind}" for kind in ENDINGS}
    assert not pyplot.get_fignums()
    table = pd.read_csv(folder / "first_mine.csv")
    assert set(table["experiment"]) == {"first"}
    assert {"loss", "seed", "split", "epoch", "metric", "value"} <= set(table)
    shown = picture((folder / "first_mine.svg").read_bytes())
    # The supxlabel is the user's, no note of ours; the whole is one part, whatever its panels.
    assert shown.notes == ()
    (part,) = shown.parts
    assert part["size"] == pytest.approx(shown.size)
    assert part["pieces"][0]["group"] == "whole"
    text = (folder / "first_mine.svg").read_text()
    assert all(f">{word}</text>" in text for word in ("epoch", "first", *given["experiments"][0].labels.values()))
    again = {path.name: path.read_bytes() for path in folder.iterdir()}
    draw(**given)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == again


def test_a_figure_of_the_users_own_may_come_with_its_table(study):
    draw(**own_figure(study, "with_table"))
    assert (study["root"] / "figures" / "first_mine.csv").read_text() == "n\n7\n"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("axes", r"mine:axes \(.*mine\.py\) must return a figure of Matplotlib .* not Axes"),
        ("nothing", r"mine:nothing \(.*mine\.py\) must return a figure of Matplotlib .* not NoneType"),
        ("raising", r"mine:raising \(.*mine\.py, line 34: `return metrics\[.no such column.\]`\) failed: KeyError"),
        ("unreadable", r"figure first_mine cannot be drawn: ValueError"),
    ],
)
def test_a_figure_of_the_users_own_that_fails_is_named_with_its_line(study, name, message):
    with pytest.raises(ValueError, match=message) as failed:
        draw(**own_figure(study, name))
    assert str(failed.value).startswith("figure first_mine cannot be drawn: ")
    assert not (study["root"] / "figures").exists()
