"""The digest sees what a step computes, and nothing else."""

import ast
import copy
import shutil

import pytest

from nclens.figures.catalogue import FIGURES
from nclens.study import load_study
from nclens.study.models import MODEL_KINDS as MODELS
from nclens.workflow import provenance, syntax
from nclens.workflow.plan import Plan

STAGES = (
    "prepare",
    "train",
    "ingest",
    "extract",
    "measure",
    "theory",
    "reuse",
    "collect",
    "judge",
    "draw",
    "report",
    "track",
    "resolve",
)

#: Modules of the figures that the study draws.
DRAWN = (
    *("cross_entropy_vs_label_smoothing", "nc0", "projections", "reliability", "risk_coverage", "temperature"),
    *("ufm_dynamics", "unconstrained_feature_model", "when_does_it_help"),
)

#: Folder or module -> the steps that run again when it is edited, for a run of resnet8 with label smoothing on mnist5k,
#: with a probe; `ingest` is that of a run trained elsewhere. A module in the table is an exception to its folder; what
#: is neither runs nothing again.
RERUN = {
    "_inputs": "collect draw extract ingest measure predict probe train",
    "_lanczos": "theory",
    "_torchvision": "ingest",
    "claims": "judge report",
    **dict.fromkeys(("claims.across_studies", "claims.papers", "claims.power"), ""),
    "claims.specifications": "judge",
    "data": "",
    "data.alterations": "prepare",
    **dict.fromkeys(("data.arrays", "data.hidden"), "ingest"),
    **dict.fromkeys(("data.dataset", "data.labels", "data.numbers", "data.shares"), "ingest prepare"),
    **dict.fromkeys(("data.chosen_classes", "data.mnist5k", "data.regression"), "prepare"),
    "data.prepared": "extract ingest probe train",
    "data.tasks": "draw extract ingest predict probe theory track train",
    "data.tensors": "extract ingest probe track train",
    "figures": "",
    "figures.catalogue": "draw report",
    "figures.film_inputs": "report",
    **dict.fromkeys(
        (
            f"figures.{shared}"
            for shared in ("curves", "findings", "inputs", "own", "per_loss", "printing", "style", "svg")
        ),
        "draw",
    ),
    **dict.fromkeys((f"figures.{drawn}" for drawn in DRAWN), "draw"),
    "losses": "measure predict probe train",
    "metrics": "",
    **dict.fromkeys(
        (f"metrics.{part}" for part in ("calibration", "held_out", "representation", "samples")), "collect draw measure"
    ),
    **dict.fromkeys(("metrics.arc", "metrics.translation"), "collect"),
    "metrics.selective": "draw measure",
    **dict.fromkeys(
        ("metrics.alignment", "metrics.generalised", "metrics.largest", "metrics.pairs", "metrics.ranks"), "measure"
    ),
    "metrics.catalogue": "draw judge report",
    **dict.fromkeys(("metrics.collapse", "metrics.film"), "measure"),
    **dict.fromkeys(("metrics.imbalance", "metrics.label_noise"), "measure"),
    "metrics.intervals": "draw judge report track",
    **dict.fromkeys(("metrics.regression", "metrics.regressor"), "measure"),
    "models": "",
    **dict.fromkeys(("models.head", "models.network"), "extract ingest probe track train"),
    "models.blocks": "extract ingest probe train",
    "models.cost": "ingest train",
    "models.folding": "extract ingest",
    "models.preprocessing": "ingest",
    "models.small": "extract ingest probe train",
    "probes": "",
    "probes.catalogue": "report",
    "probes.gradients": "probe",
    "report": "report",
    **dict.fromkeys(("report.effects", "report.text"), "judge report"),
    "report.markdown": "judge",
    **dict.fromkeys(
        (f"report.{part}" for part in ("atlas", "latex", "macros", "power", "quotes", "terminal", "values")), ""
    ),
    **dict.fromkeys(
        (f"training.{part}" for part in ("graph", "loop", "optimizer", "recipe", "runtime", "statistics")),
        "extract ingest probe train",
    ),
    "training.history": "collect extract ingest probe track train",
    "training.learning_rate": "extract ingest predict probe train",
    "training.loss": "measure predict train",
    "training.passes": "extract ingest",
    "training.shift": "predict",
    "ufm": "",
    **dict.fromkeys(("ufm.classification", "ufm.regression", "ufm.regression_tables"), "predict theory"),
    "ufm.checks": "draw judge predict report theory",
    "ufm.classification_tables": "theory",
    **dict.fromkeys(("ufm.dynamics", "ufm.hessian", "ufm.numeric", "ufm.spectra"), "theory"),
    "ufm.effective": "predict",
    "ufm.explanations": "draw judge report",
    "ufm.formulas": "draw report",
    "ufm.nc0": "draw judge predict report",
    "ufm.quantities": "draw judge report",
    "workflow.aggregates": "track",
    "workflow.build.claims": "judge report",
    **dict.fromkeys(("workflow.build.data", "workflow.build.own_data"), "prepare"),
    "workflow.build.descent": "predict",
    "workflow.build.figures": "draw",
    "workflow.build.checkpoints": "extract ingest",
    "workflow.build.functions": "draw extract ingest judge measure predict prepare probe report track train",
    "workflow.build.losses": "measure predict train",
    "workflow.build.metrics": "measure",
    "workflow.build.optimizers": "train",
    "workflow.build.lr_schedules": "predict train",
    "workflow.build.recipes": "train",
    "workflow.build.own": "measure probe",
    "workflow.build.models": "extract ingest probe track train",
    **{f"workflow.stages.{stage}": stage for stage in (*STAGES, "predict", "probe")},
    **dict.fromkeys((f"workflow.{part}" for part in ("logged_model", "recorded", "saved_view", "tracking")), "track"),
    "workflow.tables": "collect draw ingest judge measure predict probe report theory track train",
}


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A copy of the package that a test may edit."""
    shutil.copytree(provenance.PACKAGE, tmp_path / "nclens", ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(provenance, "PACKAGE", tmp_path / "nclens")
    _forget()
    yield tmp_path / "nclens"
    _forget()


def _forget():
    for name in ("_syntax", "_imports", "_module_parts", "_name_parts"):
        getattr(provenance, name).cache_clear()


def digests():
    """The digests of every step, as the rules ask for them."""
    _forget()
    made = {stage: provenance.code_digest(stage) for stage in STAGES}
    made["draw"] = provenance.code_digest("draw", functions=[entry.draw for entry in FIGURES.values()])
    for loss in ("ce", "ls"):
        made[f"train {loss}"] = provenance.code_digest(
            "train", functions=["nclens.models:resnet8", f"nclens.losses:{loss}"]
        )
    return made


def changed_by(edit):
    """The steps whose digest an edit changes."""
    before = digests()
    edit()
    after = digests()
    return {step for step in before if before[step] != after[step]}


def append(path, text):
    return lambda: path.write_text(path.read_text() + text)


def replace(path, old, new):
    def edit():
        content = path.read_text()
        assert content.count(old) >= 1, f"{old!r} is not in {path}"
        path.write_text(content.replace(old, new, 1))

    return edit


def edited(tree):
    """A module's tree with another statement in the module and in each of its definitions."""
    tree = copy.deepcopy(tree)
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef):
            node.body.append(ast.parse("EDITED = 1").body[0])
        elif isinstance(node, ast.Assign | ast.AnnAssign) and node.value and node in tree.body:
            node.value = ast.Tuple([node.value], ast.Load())
    return tree


@pytest.mark.lengthy
def test_an_edited_module_runs_again_what_uses_it_and_nothing_else(raw_study, monkeypatch, tmp_path):
    """The table is complete: an edit changes the digests of the steps that have a part of the module, as below."""
    raw_study["probes"] = {"variance": {"kind": "gradient_variance"}}
    raw_study["experiments"]["smoke"]["probes"] = ["variance"]
    (tmp_path / "x.pt").touch()
    elsewhere = {"kind": "imported", "dataset": "mnist5k", "model": "resnet8", "normalise": "none"}
    raw_study["experiments"]["elsewhere"] = elsewhere | {"runs": {"mine": {0: "x.pt"}}}
    plan = Plan(load_study(raw_study, [tmp_path]))
    run = next(run for run in plan.study.runs() if run.loss == "ls")
    imported = next(plan.study.runs("elsewhere"))
    used = {stage: plan.code_used(stage, run) for stage in (*STAGES, "predict", "probe")}
    used["prepare"] = plan.data_code_used("mnist5k")
    used["ingest"] = plan.code_used("ingest", imported)
    assert used["ingest"] == plan.code_used("extract", imported)
    original, edits = provenance._syntax, {}
    monkeypatch.setattr(provenance, "_syntax", lambda module: edits.get(module) or original(module))

    def digests_of_all():
        # What a module imports is the same after an edit.
        for name in ("_module_parts", "_name_parts"):
            getattr(provenance, name).cache_clear()
        return {stage: provenance.code_digest(stage, **arguments) for stage, arguments in used.items()}

    before, found, expected = digests_of_all(), {}, {}
    for path in sorted(provenance.PACKAGE.rglob("*.py")):
        name = ".".join(path.relative_to(provenance.PACKAGE).with_suffix("").parts).removesuffix(".__init__")
        module = "nclens" if name == "__init__" else f"nclens.{name}"
        edits[module] = syntax.analyse(edited(syntax.parse(path.read_text(encoding="utf-8"), str(path))))
        after = digests_of_all()
        del edits[module]
        found[name] = " ".join(sorted(stage for stage in before if before[stage] != after[stage]))
        families = [name.rsplit(".", n)[0] for n in range(name.count(".") + 1)]
        expected[name] = next((RERUN[family] for family in families if family in RERUN), "")
    digests_of_all()
    assert found == expected
    assert set(RERUN) <= {family for name in expected for family in (name, name.rsplit(".", 1)[0])}


@pytest.mark.parametrize(
    ("module", "stages"),
    [
        ("probes/segmentation", {"probe"}),
        ("models/feature_map", {"probe"}),
        ("data/segmentation", {"probe", "prepare scenes"}),
        ("data/scenes", {"prepare scenes"}),
        ("data/textures", {"prepare scenes"}),
        ("data/oxford_pets", set()),
    ],
)
def test_what_segmentation_is_made_of_trains_nothing_again(raw_study, package, module, stages):
    raw_study["datasets"]["scenes"] = {"source": "scenes"}
    raw_study["probes"] = {"dense": {"kind": "segmentation", "dataset": "scenes"}}
    raw_study["experiments"]["smoke"]["probes"] = ["dense"]

    def codes():
        _forget()
        plan = Plan(load_study(raw_study))
        run = next(plan.study.runs())
        of_run = {stage: plan.code(stage, run) for stage in ("train", "extract", "measure", "probe")}
        return of_run | {f"prepare {name}": plan.data_code(name) for name in ("mnist5k", "scenes")}

    before = codes()
    path = package / f"{module}.py"
    # Of a registry, such as the models, what is named counts.
    path.write_text(path.read_text().replace("super().__init__()", "super().__init__(*())") + "\n\nEDITED = 1\n")
    after = codes()
    assert {stage for stage in before if before[stage] != after[stage]} == stages


def test_a_registry_counts_by_the_names_that_are_taken_from_it(package):
    path = package / "workflow" / "tables.py"
    edited = replace(path, 'EFFECTIVE = Table(\n    "predict"', 'EFFECTIVE = Table(\n    "other"')
    assert changed_by(edited) == {"report"}
    assert changed_by(append(path, "\n\nEXTRA = 1\n")) == set()


@pytest.mark.lengthy
def test_comments_and_formatting_change_nothing(package):
    for module in ("metrics/collapse", "losses", "training/loop"):
        path = package / f"{module}.py"
        assert changed_by(append(path, "\n\n# a comment\n")) == set()
        assert changed_by(replace(path, '"""', '"""Another docstring. ')) == set()


def test_a_new_loss_changes_nothing(package):
    path = package / "losses.py"
    assert (
        changed_by(append(path, "\n\n@register()\ndef extra(logits, targets):\n    return ce(logits, targets)\n"))
        == set()
    )


def test_an_edited_loss_changes_its_runs_only(package):
    def edit():
        path = package / "losses.py"
        head, name, tail = path.read_text().partition("def ls(")
        path.write_text(head + name + tail.replace("    return", "    return 2 * 1 *", 1))

    assert changed_by(edit) == {"train ls"}


def test_an_edited_model_changes_its_runs_only_and_a_new_one_none(package):
    def runs():
        _forget()
        return {name: provenance.code_digest("train", functions=[f"nclens.models:{name}"]) for name in MODELS}

    def trained_again(edit):
        before = runs()
        edit()
        after = runs()
        return {name for name in before if before[name] != after[name]}

    small, zoo = package / "models" / "small.py", package / "models" / "zoo.py"
    new = "\n\n@register\ndef extra(shape, outputs):\n    return pooled([], shape[0], outputs, False)\n"
    assert trained_again(append(small, new)) == set()
    assert (
        trained_again(append(package / "models" / "__init__.py", "\nfrom nclens.models.small import extra\n")) == set()
    )
    assert trained_again(replace(small, "width: int = 16", "width: int = 8")) == {"resnet8"}
    assert trained_again(replace(small, "2**group", "3**group")) == {"vgg"}
    assert trained_again(replace(small, "GlobalAveragePool()", "nn.AdaptiveMaxPool2d(1)")) == {
        "resnet8",
        "resnet20",
        "vgg",
    }
    assert trained_again(replace(zoo, "(7, 2)", "(7, 1)")) == {"resnet18", "resnet34", "resnet50"}
    assert trained_again(replace(zoo, '"resnet34", shape', '"resnet34", *shape')) == {"resnet34"}
    assert trained_again(replace(zoo, "weights=None", "weights=0")) == {"torchvision"}
    assert trained_again(replace(package / "_torchvision.py", "SCHEMAS = {", "SCHEMAS = {} | {")) == {
        *("resnet18", "resnet34", "resnet50", "timm", "torchvision")
    }
    assert trained_again(replace(package / "models" / "network.py", "(dim, outputs)", "(dim, 2 * outputs)")) == set(
        MODELS
    )


def test_a_new_function_in_collapse_measures_again_and_trains_nothing(package):
    changed = changed_by(append(package / "metrics" / "collapse.py", "\n\nEXTRA = 1\n"))
    assert "measure" in changed
    assert not changed & {"train", "train ce", "train ls", "extract", "prepare", "draw", "judge"}


def test_a_label_of_the_catalogue_measures_nothing_again(package):
    changed = changed_by(replace(package / "metrics" / "catalogue.py", '"NC4"', '"NC4, nearest class mean"'))
    assert not changed & {"measure", "train ce", "extract", "prepare", "probe"}


def test_a_function_of_the_catalogue_counts_where_it_is_called(package):
    def digest():
        _forget()
        return provenance.code_digest("measure", modules=["nclens.metrics.calibration"])

    before = digest()
    append(package / "metrics" / "calibration.py", "\n\nEXTRA = 1\n")()
    assert digest() != before


def test_a_figure_changes_drawing_and_the_page(package):
    assert changed_by(append(package / "figures" / "style.py", "\n\nEXTRA = 1\n")) <= {"draw", "report"}
    assert "draw" in changed_by(append(package / "figures" / "style.py", "\n\nMORE = 1\n"))
    curves = package / "figures" / "maxsup.py"
    assert changed_by(replace(curves, "height=4.3", "height=4.4")) == {"draw"}


def test_a_figure_that_a_study_does_not_draw_changes_nothing_there(package):
    def draw():
        _forget()
        return provenance.code_digest("draw", functions=[FIGURES["norms"].draw])

    before = draw()
    replace(package / "figures" / "maxsup.py", "height=4.3", "height=4.4")()
    assert draw() == before
    replace(package / "figures" / "per_loss.py", "0.36 * len", "0.37 * len")()
    assert draw() != before


def test_a_source_of_data_counts_for_its_own_data_only(package):
    sources = ("mnist5k", "torchvision", "tinyimagenet", "imagefolder", "arrays")

    def prepared_again(edit):
        before = {source: provenance.code_digest("prepare", modules=[f"nclens.data.{source}"]) for source in sources}
        edit()
        _forget()
        return {
            source
            for source in sources
            if provenance.code_digest("prepare", modules=[f"nclens.data.{source}"]) != before[source]
        }

    data = package / "data"
    assert prepared_again(append(data / "arrays.py", "\n\nMORE = 1\n")) == {"arrays"}
    assert prepared_again(append(data / "torchvision_files.py", "\n\nMORE = 1\n")) == {"torchvision"}
    images = {"torchvision", "tinyimagenet", "imagefolder"}
    assert prepared_again(append(data / "images.py", "\n\nMORE = 1\n")) == images
    assert prepared_again(append(data / "dataset.py", "\n\nMORE = 1\n")) == set(sources)
    for fetching in (data / "download.py", data / "raw.py", package / "study" / "torchvision_sets.py"):
        assert prepared_again(append(fetching, "\n\nMORE = 1\n")) == set()


def test_the_code_of_streams_counts_for_streams_only(raw_study, package):
    stream = {"source": "imagefolder", "path": "pets", "storage": "stream", "image_size": 32}
    raw_study["datasets"]["pets"] = stream
    raw_study["experiments"]["pets"] = raw_study["experiments"]["smoke"] | {"dataset": "pets"}

    def codes():
        _forget()
        plan = Plan(load_study(raw_study))
        runs = {run.dataset: run for run in plan.study.runs()}
        made = {(stage, name): plan.code(stage, run) for name, run in runs.items() for stage in ("train", "extract")}
        return made | {("prepare", name): plan.data_code(name) for name in runs}

    before = codes()
    append(package / "data" / "stream.py", "\n\nMORE = 1\n")()
    after = codes()
    changed = {step for step in before if before[step] != after[step]}
    assert changed == {(stage, "pets") for stage in ("prepare", "train", "extract")}


def test_a_template_changes_the_page_only(package):
    template = next((package / "report" / "templates").glob("*.j2"))
    assert changed_by(append(template, "more")) == {"report"}


def test_hidden_files_and_folders_beside_the_templates_change_nothing(package):
    def edit():
        templates = package / "report" / "templates"
        for name in (".ipynb_checkpoints", "old"):
            (templates / name).mkdir()
            (templates / name / "page.html.j2").write_text("other")
        for name in (".DS_Store", "Thumbs.db"):
            (templates / name).write_text("tool-made")

    assert changed_by(edit) == set()


def test_what_checks_and_names_and_recognises_failures_changes_nothing(package):
    modules = [
        *("workflow/files", "workflow/provenance", "workflow/failures", "workflow/devices", "workflow/user_files"),
        *("workflow/forkserver", "__main__"),
        *("cli", "study/study", "models/memory", "data/raw", "data/download", "training/writer"),
    ]

    def edit():
        for module in modules:
            path = package / f"{module}.py"
            head, define, rest = path.read_text().partition("\ndef ")
            path.write_text(head + "\nEXTRA = 1\n" + define + rest.replace("    return ", "    return EXTRA and ", 1))

    assert changed_by(edit) == set()


def test_the_text_of_an_error_changes_nothing_and_its_kind_and_condition_do(package):
    loop = package / "training" / "loop.py"
    text = "is larger than the training split"
    assert changed_by(replace(loop, text, "exceeds the training split")) == set()
    trained = {"train", "train ce", "train ls", "ingest", "extract"}
    assert changed_by(replace(loop, "raise UnfitError(", "raise TypeError(")) == trained
    assert changed_by(replace(loop, "if not math.isfinite(", "if math.isnan(")) == trained


def test_what_a_users_file_does_as_a_script_changes_nothing(tmp_path):
    path = tmp_path / "mine.py"

    def digest(end):
        path.write_text("def loss(a, b):\n    return a\n" + end)
        return provenance.code_digest("train", own=[(path, "mine:loss")])

    before = digest("")
    assert digest('\n\nif __name__ == "__main__":\n    print(loss(1, 2))\n') == before
    assert digest('\n\nif __name__ == "mine":\n    print(loss(1, 2))\n') != before


def test_a_function_of_the_users_counts_with_what_it_uses(tmp_path):
    path, helper = tmp_path / "mine.py", tmp_path / "beside.py"
    parts = {
        "head": "import beside\nSCALE = 2\n",
        "used": "def used(a):\n    return SCALE * a\n",
        "loss": "def loss(a, b):\n    return used(a)\n",
        "other": "def other(a):\n    return a\n",
    }

    def digest(helps="def f():\n    return 1\n", **changes):
        helper.write_text(helps)
        path.write_text("".join((parts | changes).values()))
        return provenance.code_digest("train", own=[(path, "mine:loss")])

    before = digest()
    assert digest(loss='def loss(a, b):\n    """Say."""\n    return used(a)  # indeed\n') == before
    assert digest(other="def other(a):\n    return 7\n") == before
    for changed in (
        digest(loss="def loss(a, b):\n    return used(b)\n"),
        digest(used="def used(a):\n    return a\n"),
        digest(head="import beside\nSCALE = 3\n"),
        digest(helps="def f():\n    return 2\n"),
    ):
        assert changed != before


USES = {
    "a call": ("def loss(a, b):\n    return other(a)\n", True),
    "a default": ("def loss(a, b=other):\n    return a\n", True),
    "a decorator": ("@other\ndef loss(a, b):\n    return a\n", True),
    "an annotation": ("def loss(a: other, b):\n    return a\n", True),
    "within another function": ("def loss(a, b):\n    return [(lambda c: other(c))(d) for d in a]\n", True),
    "within a class": ("def loss(a, b):\n    class C:\n        d = other\n    return C\n", True),
    "a declared global": ("def loss(a, b):\n    global other\n    other = a\n", True),
    "read in one function, set in another": (
        "def loss(a, b):\n    def inner(other):\n        return other\n    return other(inner(a))\n",
        True,
    ),
    "a variable": ("def loss(a, b):\n    other = a\n    return other\n", False),
    "a parameter": ("def loss(other, b):\n    return other\n", False),
    "of the function around": ("def loss(a, b):\n    other = a\n    return (lambda: other)()\n", False),
}


@pytest.mark.parametrize("use", USES)
def test_a_variable_is_no_use_of_a_function_of_its_name(tmp_path, use):
    loss, counts = USES[use]
    path = tmp_path / "mine.py"

    def digest(other):
        path.write_text(loss + other)
        return provenance.code_digest("train", own=[(path, "mine:loss")])

    one, two = (digest(f"def other(a):\n    return {number}\n") for number in (1, 2))
    assert (one != two) == counts


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("WIDTHS = []\nWIDTHS.append(64)\n", "WIDTHS = []\nWIDTHS.append(64)\nWIDTHS.append(64)\n"),
        ("SCALE = 1\nSCALE = 2\n", "SCALE = 2\nSCALE = 1\n"),
        ("def f():\n    return 1\ndef f():\n    return 2\n", "def f():\n    return 2\ndef f():\n    return 1\n"),
        ("def back():\n    return 1\n", "def back():\n    return 2\n"),
    ],
    ids=["as often", "in order", "the last definition", "imported back"],
)
def test_what_a_users_file_does_on_import_counts_in_its_order(tmp_path, before, after):
    path = tmp_path / "mine.py"
    (tmp_path / "beside.py").write_text("def g():\n    from mine import back\n    return back()\n")

    def digest(head):
        path.write_text(f"{head}import beside\ndef loss(a, b):\n    return f() * beside.g()\n")
        return provenance.code_digest("train", own=[(path, "mine:loss")])

    assert digest(before) != digest(after)


def test_packages_beside_the_users_file_count_too(tmp_path):
    path, package = tmp_path / "mine.py", tmp_path / "helpers"
    (package / "deep").mkdir(parents=True)
    files = [package / "__init__.py", package / "parts.py", package / "deep" / "__init__.py", package / "sibling.py"]
    for file in files:
        file.write_text("VALUE = 1\n")
    (package / "parts.py").write_text("from . import sibling\nVALUE = sibling.VALUE\n")
    path.write_text("import helpers.deep\nfrom helpers import parts\n\ndef loss(a, b):\n    return parts.VALUE\n")

    def digest():
        return provenance.code_digest("train", own=[(path, "mine:loss")])

    known = {digest()}
    for file in files:
        file.write_text(file.read_text() + "MORE = 2\n")
        assert digest() not in known, file
        known.add(digest())


def test_versions_name_what_decides_a_result():
    assert {"python", "torch", "numpy", "nclens"} <= set(provenance.versions())
