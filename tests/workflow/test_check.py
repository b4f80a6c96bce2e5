"""One check before anything starts: whatever it passes is planned by Snakemake and comes through the shell whole."""

import copy
import json
import random
import re
import shlex
import time
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from snakemake.utils import QuotedFormatter

from nclens.study import ConfigError
from nclens.study.fields import Name
from nclens.workflow.check import check_file, check_study, specifications, study_files
from nclens.workflow.plan import Plan
from nclens.workflow.specs import encode
from tests.process import ROOT
from tests.project import Place

SMOKE = yaml.safe_load((ROOT / "studies" / "smoke.yaml").read_text(encoding="utf-8"))
PATTERN = Name.__metadata__[0].pattern

#: What shells, formats, paths, options and tables give a meaning to, between whatever else there is.
PIECES = (
    *("{", "}", "{{", "{seed}", "{max}", "{input}", "{wildcards.run}", "'", '"', "`", "%s", "\\", "\\n", "\n", "\t"),
    *("$", "$HOME", "$(x)", r"$\lambda_{max}$", r"\$", "--spec", "-", "|", ";", "&", "<b>", "#", "!", "*", "~", "\0"),
    *("\u2028", "é", "δ", "日本", "😀", " ", "x" * 60, "[/]", "\ud800", "_"),
)
TEXTS = st.one_of(st.lists(st.sampled_from(PIECES), max_size=6).map("".join), st.text(max_size=250))
#: Names of rules, wildcards, stages and folders, beside any others.
TAKEN = ("setup", "study", "all", "train", "track", "track_setup", "run", "dataset", "results", "seed", "R", "epoch1")
NAMES = st.one_of(st.sampled_from(TAKEN), st.from_regex(PATTERN, fullmatch=True), TEXTS)


def renamed(raw, table, old, new):
    """Give an entry of the smoke study another name."""
    raw[table] = {new if name == old else name: entry for name, entry in raw[table].items()}
    (experiment,) = raw["experiments"].values()
    for key, value in experiment.items():
        if key == table[:-1]:
            experiment[key] = new
        elif key == table:
            experiment[key] = [new if name == old else name for name in value]
    return raw


def named(**names):
    """The smoke study with other names, title and label."""
    raw = copy.deepcopy(SMOKE)
    raw |= {key: names.pop(key) for key in ("study", "title") if key in names}
    if "label" in names:
        raw["losses"]["ls"]["label"] = names.pop("label")
    olds = {"datasets": "mnist5k", "models": "resnet8", "losses": "ls", "experiments": "smoke"}
    for table, new in names.items():
        renamed(raw, table, olds[table], new)
    return raw


def passed(raw):
    """Return a study that passes the check, or None; then there is one message."""
    try:
        return check_study(raw, [Path()])
    except ConfigError as error:
        message = str(error)
    assert 0 < len(message) < 2000
    return None


# --- names, titles and labels ----------------------------------------------------------------------------------------


@pytest.mark.lengthy
@given(TEXTS, TEXTS, NAMES)
@settings(max_examples=40)
def test_every_specification_comes_through_the_shell_whole(title, label, name):
    for changes in ({"title": title}, {"label": label}, {"datasets": name}, {"losses": name}, {"experiments": name}):
        study = passed(named(**changes))
        if study is None:
            continue
        for _, spec in specifications(study):
            command = QuotedFormatter().format("nclens step --spec {spec:q}", spec=encode(spec))
            assert shlex.split(command)[3:] == [encode(spec)]
        made = Plan(study)
        paths = list(map(str, made.promised()))
        assert len(paths) == len(set(paths))
        assert not any("{" in path or "\n" in path for path in paths)
        assert all(re.fullmatch(made.pattern, run) for run in made.runs)


def commands(place, raw):
    """Return the stage and the specification of every command that a dry run prints."""
    place.configure(raw)
    output = place.snakemake("--dry-run", "--printshellcmds").stdout
    lines = re.findall(r"^Shell command: +(nclens .*?)$", output, flags=re.MULTILINE)
    words = list(map(shlex.split, lines))
    return {(*line[1 : line.index("--spec")], line[line.index("--spec") + 1]) for line in words}


@pytest.mark.workflow
@pytest.mark.slow
def test_what_passes_the_check_is_planned_by_snakemake(tmp_path):
    """One dry run of many titles, labels and names at once."""
    place, draw = Place.copy_to(tmp_path / "project"), random.Random(0)
    drawn = ["".join(draw.choices(PIECES, k=draw.randint(1, 5))) for _ in range(150)]
    raw = named(title=r"$\lambda_{max}$ {seed} it's 100% \"{{x}}\"")
    special = [r"$\lambda_{max}$", "{seed}", 'it\'s 100% "{{x}}"\\', "--spec", *PIECES]
    labels = [label for label in dict.fromkeys([*special, *drawn]) if label and passed(named(label=label))]
    assert len(labels) > 60
    raw["losses"] |= {f"own{n}": {"name": "ls", "smoothing": 0.1, "label": label} for n, label in enumerate(labels)}
    raw["experiments"]["smoke"] |= {"losses": list(raw["losses"]), "seeds": [0]}
    for name in (*TAKEN, "a+b", "a.b..", "A-_", "xyz" * 19, "x" * 19):
        raw["datasets"][name], raw["models"][name] = SMOKE["datasets"]["mnist5k"], SMOKE["models"]["resnet8"]
        raw["losses"][name] = {"name": "ce"}
        own = {"dataset": name, "model": name, "losses": [name], "seeds": [0], "figures": ["norms"]}
        raw["experiments"][name] = SMOKE["experiments"]["smoke"] | own
    assert passed(raw)
    assert passed(named(experiments="setup"))
    assert passed(named(experiments="study"))
    found = commands(place, raw)
    steps = {f"track_{what}": ("track", what) for what in ("setup", "study", "run")}
    planned = ((stage.partition(" ")[0], encode(spec)) for stage, spec in specifications(passed(raw)))
    expected = {(*steps.get(stage, (stage,)), spec) for stage, spec in planned if stage != "report"}
    assert {each for each in found if each[0] != "report"} == expected
    (report,) = (json.loads(spec) for stage, *_, spec in found if stage == "report")
    assert report["title"] == raw["title"]


# --- names that are taken --------------------------------------------------------------------------------------------


def test_the_names_of_a_studys_own_files_are_found_where_its_paths_are():
    made = Plan(check_study(copy.deepcopy(SMOKE), [Path()]))
    own, found = {path.relative_to(made.folder.root).parts[0] for path in made.promised()} - {"mnist5k"}, study_files()
    assert own <= found
    assert {"logs", "benchmarks", "mlflow.json", "claims.md", "study.yaml", "tables", "data", "figures"} <= found


@pytest.mark.parametrize(
    "name", ["mlflow.json", "report.html", "study.yaml", "claims.csv", "metrics.parquet", "data", "Report.HTML"]
)
def test_a_data_set_named_as_a_file_of_the_study_is_refused(name):
    message = rf"^datasets\.{re.escape(name)}: is the name of a file .*; allowed: any name but "
    with pytest.raises(ConfigError, match=message):
        check_study(named(datasets=name), [Path()])


@pytest.mark.parametrize("name", ["x" * 64, "a" + "xy" * 20, "x" * 20])
def test_a_data_set_whose_name_snakemake_takes_for_an_endless_loop_is_refused(name):
    with pytest.raises(ConfigError, match=rf"^datasets\.{name}: ends with `xy?` 20 times or more, which Snakemake"):
        check_study(named(datasets=name), [Path()])
    assert passed(named(losses=name, models=name, experiments=name))
    assert passed(named(datasets=name[-19:]))


def test_the_check_makes_every_specification_that_a_rule_passes(tmp_path):
    rules = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "rules").glob("*.smk"))
    used = set(re.findall(r"specs\.(\w+)", rules)) - {"import"}
    raw = named() | {"probes": {"p": {"kind": "gradient_variance"}}}
    raw["experiments"]["smoke"]["probes"] = ["p"]
    (tmp_path / "mine.py").write_text("def figure(metrics): ...")
    raw["figures"] = {"mine": {"function": "mine:figure"}}
    (tmp_path / "x.pt").touch()
    imported = {"kind": "imported", "dataset": "mnist5k", "model": "resnet8", "normalise": "none"}
    raw["experiments"]["elsewhere"] = imported | {"runs": {"mine": {0: "x.pt"}}}
    made = {stage.partition(" ")[0] for stage, _ in specifications(check_study(raw, [tmp_path]))}
    assert made == used - {"reuse"}  # of a study that has runs of another one; see test_reused.py


def test_what_starts_snakemake_for_the_user_checks_first():
    lines = (ROOT / "Makefile").read_text(encoding="utf-8").splitlines()
    starting = [line for line in lines if line.startswith("\t") and "$(RUN)" in line]
    assert len(starting) == 3
    # `nclens run` checks the study before it starts Snakemake, see tests/workflow/test_start.py.
    assert next(line for line in lines if line.startswith("RUN =")).startswith("RUN = nclens run ")
    assert not [line for line in lines if line.startswith("\t") and re.search(r"(^|[ @])snakemake (?!--lint)", line)]


# --- titles and labels -----------------------------------------------------------------------------------------------

REFUSED = {
    "a title of 140 kB": (
        {"title": "x" * 140_000},
        r"title = 'xx.*xx': has 140000 characters; at most 200 are allowed",
    ),
    "a title of two lines": ({"title": "a\nb"}, r"title = 'a\\nb': must be one line .* U\+000A at 1 is a control"),
    "a long label": ({"label": "x" * 121}, "label = .*has 121 characters; at most 120"),
    "a hidden label": ({"label": "_x"}, "label = '_x': must be text that does not begin with _"),
    "an unknown symbol": (
        {"label": r"$\nothing$"},
        r"ls\.label = .*: Matplotlib cannot draw it: Unknown symbol",
    ),
    "half a formula": ({"label": "5$"}, r"a formula is between two \$, and a \$ that is none is written"),
    "a long name": ({"losses": "x" * 65}, r"losses\.x+: must be a name of at most 64 characters: a letter, then"),
    "a name with a brace": ({"experiments": "{seed}"}, r"experiments\.\{seed\}: must be a name of at most 64"),
    "a name with a newline": ({"study": "a\n"}, r"study = 'a\\n': must be a name of at most 64"),
    "a name that is a value": ({"datasets": "NaN"}, r"NaN: reads as a value in a table; choose another name"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_name_title_or_label_that_cannot_work_is_refused_in_a_sentence(case):
    changes, message = REFUSED[case]
    with pytest.raises(ConfigError, match=message) as caught:
        check_study(named(**changes), [Path()])
    assert len(str(caught.value)) < 500
    assert "match" not in str(caught.value)


def test_a_step_whose_settings_are_too_long_for_a_command_is_named():
    raw = named()
    raw["losses"] |= {f"l{n}": {"name": "ls", "smoothing": 0.1, "label": "'" * 120} for n in range(200)}
    with pytest.raises(
        ConfigError, match=r"The settings of the step `resolve` take \d{3},\d{3} bytes .* at most 120,000"
    ):
        check_study(raw, [Path()])


# --- numbers ---------------------------------------------------------------------------------------------------------

EPOCHS, SNAPSHOTS = "experiments.smoke.training.epochs", "experiments.smoke.snapshots"
ABSURD = {
    "epochs, each a snapshot": ({EPOCHS: 2 * 10**9, SNAPSHOTS: 2 * 10**9}, "epochs = 2000000000: must be .* 1000000"),
    "snapshots": ({EPOCHS: 10**6, SNAPSHOTS: 10**6}, "snapshots = 1000000: must be less than or equal to 1000, or"),
    "a list of snapshots": ({EPOCHS: 2000, SNAPSHOTS: list(range(1, 2001))}, "snapshots: .*at most 1,000 entries"),
    "seeds": ({"experiments.smoke.seeds": list(range(1001))}, "seeds: must have at most 1,000 entries"),
    "a batch": ({"experiments.smoke.training.batch_size": 2**31 - 1}, "batch_size = 2147483647: must be .* 1000000"),
    "milestones": (
        {EPOCHS: 10**6, "experiments.smoke.training.lr_schedule.milestones": list(range(1, 1002))},
        "milestones: must have at most 1,000 entries",
    ),
    "a schedule": ({"losses.ls.schedule": {"kind": "drop", "epoch": 10**18}}, "goes on to epoch 1000000000000000000"),
    "rollouts": ({"datasets.x": {"source": "swimmer_scripted", "train_rollouts": 10**9}}, "train_rollouts = .* 100000"),
    "samples": (
        {"probes": {"p": {"kind": "gradient_variance", "samples": 10**12}}},
        "samples = 1000000000000: must",
    ),
    "draws": (
        {"probes": {"p": {"kind": "mutual_information", "draws": 10**9}}},
        "draws = 1000000000: must .* 100000",
    ),
    "a width": ({"models.x": {"name": "mlp", "widths": [2**31 - 1]}}, "widths.0 = 2147483647: must be .* 1000000"),
    "samples of a class": (
        {"datasets.x": {"source": "imagefolder", "path": "x", "train_per_class": 10**12}},
        "train_per_class = 1000000000000: must be less than 2147483648",
    ),
    "an integer": ({"experiments.smoke.seeds": [10**5000]}, r"seeds\.0: is too large: whole numbers lie below 2\^63"),
    "losses and seeds": (
        {
            "losses": {f"l{n}": {"name": "ce"} for n in range(1000)},
            "experiments.smoke.losses": [f"l{n}" for n in range(1000)],
            "experiments.smoke.seeds": list(range(101)),
        },
        "the experiments have 101,000 runs; at most 100,000 are allowed: split the study",
    ),
    "runs and snapshots": (
        {
            "losses": {f"l{n}": {"name": "ce"} for n in range(100)},
            "experiments.smoke.losses": [f"l{n}" for n in range(100)],
            "experiments.smoke.seeds": list(range(100)),
            EPOCHS: 10**6,
            SNAPSHOTS: 1000,
        },
        "have 10,000,000 snapshots; at most 2,000,000 are allowed",
    ),
}


@pytest.mark.parametrize("case", ABSURD)
def test_an_absurd_number_is_refused_at_once_with_its_limit(case):
    changes, message = ABSURD[case]
    raw = named()
    for path, value in changes.items():
        *parents, last = path.split(".")
        table = raw
        for key in parents:
            table = table[key]
        table[last] = value
    start = time.process_time()
    with pytest.raises(ConfigError, match=message):
        check_study(raw, [Path()])
    assert time.process_time() - start < 1


# --- what YAML has and a study has not -------------------------------------------------------------------------------

LAUGHS = [f"x{n}: &x{n} [{', '.join(10 * [f'*x{n - 1}'] if n else 'abcdefghij')}]" for n in range(10)]
TRAPS = {
    "an alias within itself": ("theory: &a {lambda_w: *a}", "the alias `*a` is within what it repeats"),
    "a merge within itself": ("theory: &a {<<: *a}", "the alias `*a` is within what it repeats"),
    "aliases without end": ("\n".join(LAUGHS), "the file holds more than 12,000 values, aliases counted"),
    "an alias of nothing": ("theory: *a", "undefined alias 'a'"),
    "bytes": ("data_dir: !!binary aGVsbG8=", "the tag `!!binary` is not allowed here; allowed values: text, numbers"),
    "a float that is none": ("checkpoint_minutes: !!float foo", "`foo` is no number"),
    "a bool that is none": ("track: {tensors: !!bool foo}", "`foo` is neither true nor false"),
    "a map that is none": ("theory: !!map foo", "the tag `!!map` is not allowed here"),
    "a list that is none": ("theory: !!seq foo", "the tag `!!seq` is not allowed here"),
    "an int that is none": ('checkpoint_minutes: !!int ""', "`` is no whole number"),
    "a timestamp that is none": ("theory: !!timestamp foo", "`foo` is a date in YAML"),
    "a set": ("theory: !!set {a}", "the tag `!!set` is not allowed here"),
    "an object": ("theory: !!python/object:os.system {}", "the tag `!!python/object:os.system` is not allowed here"),
    "a day that is none": ("data_dir: 2020-13-45", "`2020-13-45` is a date in YAML; text is put between quotes"),
    "a day": ("data_dir: 2020-12-05", "`2020-12-05` is a date in YAML; text is put between quotes"),
    "an equals sign": ("data_dir: =", "`=` is no value in a study; text is put between quotes"),
    "a key that is a number": ("theory: {1: 2}", "the key `1` is no text; text is put between quotes"),
    "a key that is a flag": ("theory: {on: 2}", "the key `on` is no text"),
    "a key that is a list": ("theory: {[a]: 2}", "the key of a table is no text"),
    "depth": (f"theory: {'[' * 5000}", "a value is nested deeper than 40 levels"),
    "depth in blocks": (f"theory:\n  {'- ' * 5000}", "a value is nested deeper than 40 levels"),
    "a number of many digits": (f"checkpoint_minutes: {'9' * 5000}", "9` is no whole number"),
    "a number beyond 64 bits": (
        f"checkpoint_minutes: 0x{'f' * 5000}",
        "f` is too large: whole numbers lie below 2^63",
    ),
    "Latin-1": ("data_dir: é".encode("latin-1"), "byte 0xe9 is no UTF-8; save the file as UTF-8"),
    "a control character": ("data_dir: a\x07", "the character 0x7 is not allowed in YAML"),
    "a tab": ("theory:\n\tlambda_w: 1", "is no YAML as a study needs it"),
    "a second document": ("---\na: b", "is no YAML as a study needs it"),
}


@pytest.mark.parametrize("trap", TRAPS)
def test_a_fault_of_the_yaml_is_one_message_with_file_and_line_at_once(trap, tmp_path):
    text, message = TRAPS[trap]
    path, before = tmp_path / "study.yaml", (ROOT / "studies" / "smoke.yaml").read_bytes()
    path.write_bytes(before + (text if isinstance(text, bytes) else text.encode()) + b"\n")
    start = time.process_time()
    with pytest.raises(ConfigError) as caught:
        check_file(path)
    assert time.process_time() - start < 1
    line = int(re.match(rf"{re.escape(str(path))}, line (\d+): ", str(caught.value))[1])
    assert before.count(b"\n") < line <= before.count(b"\n") + 11
    assert message in str(caught.value)
    assert len(str(caught.value)) < 400


def test_a_file_that_is_too_large_is_not_read(tmp_path):
    path = tmp_path / "study.yaml"
    path.write_text("a: b # " + "x" * 500_000)
    with pytest.raises(ConfigError, match=r"study\.yaml has more than 250,000 bytes, the most for a study"):
        check_file(path)


INNER = {"a": 1}
INNER["b"] = INNER
UNPLAIN = {
    "bytes": (b"x", "losses.ls.parameters.x: is bytes; text is put between quotes; allowed values: text, numbers"),
    "a key": ({1: 2}, "losses.ls.parameters.x: the key `1` is no text"),
    "a table within itself": (INNER, "losses.ls.parameters: is nested deeper than 40 levels"),
    "a large number": (2**64, "losses.ls.parameters.x: is too large: whole numbers lie below 2^63"),
}


@pytest.mark.parametrize("case", UNPLAIN)
def test_what_comes_from_elsewhere_is_plain_data_too(case):
    value, message = UNPLAIN[case]
    raw = named()
    raw["losses"]["ls"] = {"function": "mine:loss", "parameters": {"x": value}}
    with pytest.raises(ConfigError, match=re.escape(message)):
        check_study(raw, [Path()])


def test_aliases_and_merges_stay(tmp_path):
    path = tmp_path / "study.yaml"
    path.write_text("top: {x: &b {<<: &c {k: 1}, k: 2}, y: {<<: *b}, z: *c}\n")
    from nclens.study import read_study

    assert read_study(path) == {"top": {"x": {"k": 2}, "y": {"k": 2}, "z": {"k": 1}}}


def test_many_mistakes_are_counted_and_the_first_named():
    raw = named()
    raw["experiments"]["smoke"]["seeds"] = ["x"] * 100
    with pytest.raises(ConfigError, match=r"has 100 mistakes:(?s:.*)and 80 more$") as caught:
        check_study(raw, [Path()])
    assert str(caught.value).count("\n") == 21
