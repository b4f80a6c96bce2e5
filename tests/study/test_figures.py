"""Figures of the user's own: where they are drawn, and what is refused."""

import pytest

from nclens.study import ConfigError, load_study
from nclens.workflow import specs
from nclens.workflow.plan import Plan

MINE = "def figure(metrics, labels, level=0): ...\n"


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "mine.py").write_text(MINE)
    return tmp_path


def study(raw, folder, experiment=None, **entry):
    raw["figures"] = {"mine": {"function": "mine:figure"} | entry}
    raw["experiments"]["smoke"] |= experiment or {}
    raw["experiments"]["other"] = {**raw["experiments"]["smoke"], "losses": ["ls"], "seeds": [3], "dataset": "again"}
    raw["experiments"]["other"].pop("baseline", None)
    raw["experiments"]["other"].pop("figures", None)
    raw["datasets"]["again"] = dict(raw["datasets"]["mnist5k"])
    return load_study(raw, [folder])


@pytest.mark.parametrize(
    ("entry", "listed", "drawn"),
    [
        ({}, None, {"smoke", "other"}),
        ({}, ["norms"], {"other"}),
        ({}, ["mine", "norms"], {"smoke", "other"}),
        ({"experiments": ["other"]}, None, {"other"}),
        ({"experiments": ["smoke"]}, ["norms"], {"smoke"}),
    ],
)
def test_an_experiment_draws_it_unless_a_list_says_otherwise(raw_study, folder, entry, listed, drawn):
    made = study(raw_study, folder, {} if listed is None else {"figures": listed}, **entry)
    assert {name for name in made.experiments if "mine" in made.figures(name)} == drawn
    assert all(made.figures(name).count("mine") <= 1 for name in made.experiments)
    if listed == ["mine", "norms"]:
        assert made.figures("smoke") == listed
    assert load_study(made.resolved(), [folder]).resolved() == made.resolved()


def test_it_has_a_step_of_its_own_and_the_others_do_not_know_it(raw_study, folder):
    plain = load_study(raw_study, [folder])
    made = study(raw_study, folder, title="A title", caption="A caption.", parameters={"level": 2})
    plan = Plan(made)
    assert plan.own_figures == {"smoke_mine": ("smoke", "mine"), "other_mine": ("other", "mine")}
    assert specs.draw(made).experiments[0] == specs.draw(plain).experiments[0]
    assert made.drawing_functions() == plain.drawing_functions()
    own = specs.draw_own(made, "other", "mine")
    assert [entry.figures for entry in own.experiments] == [("mine",)]
    assert [(entry.name, entry.arguments) for entry in own.own_figures] == [("mine", {"level": 2})]
    assert specs.decode(specs.Draw, specs.encode(own)) == own
    (shown,) = specs.report(made, "").shown_figures
    assert (shown.title, shown.caption, shown.source) == ("A title", "A caption.", "this study's mine:figure")
    assert plan.folder.figure("smoke", "mine", "svg") in plan.figures("svg")
    assert plan.folder.figure("smoke", "mine", "svg") not in plan.figures("svg", own=False)
    assert "figures/smoke_mine.png" in specs.track_study(made).files
    assert plan.figure_texts("smoke_mine") == ("A title", f"A caption. Source: {shown.source}.")


def test_an_edit_counts_for_the_figure_and_nothing_else(raw_study, folder):
    made = study(raw_study, folder)

    def codes():
        plan = Plan(made)
        run = next(made.runs())
        stages = [plan.code(stage, run) for stage in ("train", "extract", "measure")]
        return [*stages, *map(plan.code, ("judge", "draw", "report"))], plan.figure_code("smoke_mine")

    others, own = codes()
    (folder / "mine.py").write_text(MINE.replace("...", "return level"))
    assert codes()[0] == others
    assert codes()[1] != own


@pytest.mark.parametrize(
    ("entry", "experiment", "message"),
    [
        (
            {"parameters": {"levl": 1}},
            {},
            r"figures\.mine: parameters: .* `levl` \(did you mean `level`\?\)",
        ),
        ({"parameters": {"labels": 1}}, {}, r"gets `labels` from us \(metrics, experiment, losses, labels"),
        ({"function": "mine:figur"}, {}, r"no function `figur` in .*; it has: figure"),
        ({"experiments": ["smok"]}, {}, r"figures\.mine\.experiments = smok: no such entry in `experiments`"),
        (
            {"experiments": ["other"]},
            {"figures": ["mine"]},
            r"experiments\.smoke\.figures = mine: figures\.mine\.experiments lacks smoke; add it",
        ),
        ({"experiments": []}, {}, r"figures\.mine: no experiment draws it, for each has a list `figures`"),
        ({}, {"figures": ["min"]}, r"figures\.0 = 'min': no such figure \(did you mean `mine`\?\); allowed: collapse"),
    ],
)
def test_a_mistake_is_named(raw_study, folder, entry, experiment, message):
    with pytest.raises(ConfigError, match=message):
        study(raw_study, folder, experiment, **entry)


def test_a_name_that_is_taken_is_refused(raw_study, folder):
    raw_study["figures"] = {"norms": {"function": "mine:figure"}}
    with pytest.raises(ConfigError, match=r"figures\.norms: is the name of a built-in figure; choose another name"):
        load_study(raw_study, [folder])
    raw_study["figures"] = {name: {"function": "mine:figure"} for name in ("b_c", "c")}
    one = raw_study["experiments"].pop("smoke")
    for name, loss in (("a", "ce"), ("a_b", "ls")):
        raw_study["experiments"][name] = {**one, "losses": [loss], "baseline": None}
    with pytest.raises(ConfigError, match=r"figure b_c of experiment a and figure c of experiment a_b would be one"):
        load_study(raw_study, [folder])
