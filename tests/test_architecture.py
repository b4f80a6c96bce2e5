"""Arrows point down only, and every line knows its room: a few sentences about folders."""

import ast
import re
import sys
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "src" / "nclens"

#: Each room, and the rooms whose modules it may import. What is not named, nothing imports.
ARROWS = {
    "__main__": {"workflow", "cli"},
    "cli": {"workflow", "study", "report", "__version__"},
    "workflow": {
        *("study", "report", "figures", "claims", "ufm", "probes"),
        *("training", "metrics", "models", "data", "losses", "_torchvision", "__version__"),
    },
    "report": {"claims", "ufm", "figures", "metrics", "probes"},
    "figures": {"metrics", "ufm"},
    "claims": {"metrics", "ufm"},
    "probes": {"training", "metrics", "models", "data", "losses", "_inputs", "_lanczos", "_torchvision"},
    "training": {"models", "data", "losses", "_inputs"},
    "callbacks": {"metrics", "models", "_inputs", "_torchvision"},
    "study": {"figures", "metrics", "probes"},
    "models": {"_torchvision"},
    "data": {"_torchvision"},
    "metrics": {"_inputs", "_torchvision"},
    "ufm": {"_lanczos"},
    "losses": {"_inputs"},
    "_inputs": set(),
    "_lanczos": set(),
    "_torchvision": set(),
    "__init__": {"callbacks", "losses", "metrics", "probes", "ufm", "workflow"},  # each when a name of its is used
}
#: Of what a room may import of these, the modules that hold plain data and numbers: the rest loads torch or Matplotlib.
CATALOGUES = {f"{room}.catalogue" for room in ("figures", "metrics", "probes")}
PARTS = {"study": CATALOGUES, "report": CATALOGUES | {"figures.film_inputs", "metrics.intervals"}}
#: The packages that one room alone imports.
HEAVY = {
    "mlflow": tuple(f"workflow.{name}" for name in ("stages.track", "tracking", "logged_model")),
    "matplotlib": ("figures", "workflow.finished.study"),  # there the type alone
    "seaborn": ("figures",),
    "snakemake": (),
    "torchvision": (),  # through `_torchvision`, by name, where it is needed
    "typer": ("cli",),
    "jinja2": ("report",),
    "pydantic": ("study",),
    "rocrate": ("workflow.finished.crate",),
    "statsmodels": ("claims.across_studies",),
    "lightning": ("callbacks.lightning",),
    "transformers": ("callbacks.huggingface",),
    "wandb": ("workflow.finished.wandb",),  # else through the loggers of Lightning and Hugging Face
    "tensorboard": (),  # through torch.utils.tensorboard
}
#: What metrics are computed with; sacrebleu, as BLEU and chrF are comparable by its definitions and signatures alone.
MEASURING = {"torch", "numpy", "scipy", "torchmetrics", "sacrebleu"}


def _modules():
    for path in sorted(PACKAGE.rglob("*.py")):
        yield ".".join(path.relative_to(PACKAGE).with_suffix("").parts).removesuffix(".__init__"), path


MODULES = dict(_modules())
STAGES = {name.removeprefix("workflow.stages.") for name in MODULES if name.startswith("workflow.stages.")}


@cache
def _tree(name):
    return ast.parse(MODULES[name].read_text(encoding="utf-8"))


@cache
def _imports_of(name):
    return _imports(name, _tree(name))


def _imports(name, tree):
    """Everything that a module imports, at the top or inside functions."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{name}: imports are absolute"
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def _in(name, *families):
    return any(name == family or name.startswith(family + ".") for family in families)


def _room(name):
    return name.split(".")[0]


@pytest.mark.parametrize("room", sorted({_room(name) for name in MODULES}))
def test_arrows_point_down(room):
    assert room in ARROWS, f"a new room {room}: say what it may import"
    for name in (name for name in MODULES if _room(name) == room):
        for imported in (other.removeprefix("nclens.") for other in _imports_of(name) if _in(other, "nclens")):
            assert _room(imported) in ARROWS[room] | {room}, f"{name} imports {imported}"
            if room in PARTS and _room(imported) in ("figures", "metrics", "probes"):
                assert _in(imported, *PARTS[room]), f"{name} imports {imported}"


@pytest.mark.parametrize("stage", sorted(STAGES))
def test_stages_never_import_each_other(stage):
    own = f"nclens.workflow.stages.{stage}"
    others = [name for name in _imports_of(f"workflow.stages.{stage}") if _in(name, "nclens.workflow.stages")]
    assert all(_in(name, own) for name in others), f"{stage} imports {others}"


def test_heavy_packages_stay_in_their_rooms():
    for name in MODULES:
        imported = _imports_of(name)
        for package, rooms in HEAVY.items():
            assert not any(_in(other, package) for other in imported) or _in(name, *rooms), f"{name} imports {package}"


def test_the_logger_of_snakemake_imports_its_interface_and_rich_alone():
    allowed = {"snakemake_interface_logger_plugins", "snakemake_logger_plugin_nclens", "rich"}
    for path in sorted((ROOT / "src" / "snakemake_logger_plugin_nclens").glob("*.py")):
        imported = _imports(path.stem, ast.parse(path.read_text(encoding="utf-8")))
        packages = {name.split(".")[0] for name in imported} - sys.stdlib_module_names
        assert packages <= allowed, f"{path.name}: {packages}"


def test_the_study_is_read_without_torch():
    assert not any(_in(other, "torch") for name in MODULES if _in(name, "study") for other in _imports_of(name))


def test_metrics_import_little():
    for name in (name for name in MODULES if _in(name, "metrics")):
        packages = {other.split(".")[0] for other in _imports_of(name)} - sys.stdlib_module_names
        assert packages <= MEASURING | {"nclens"}, f"{name}: {packages}"


def test_only_workflow_and_the_readers_of_raw_data_open_files():
    opening = re.compile(
        r"\bopen\(|\.read_(text|bytes|csv|parquet)\(|\.write_(text|bytes)\(|np\.(load|save|savez)\(|torch\.(load|save)\("
    )
    for path in sorted(PACKAGE.rglob("*.py")):
        name = ".".join(path.relative_to(PACKAGE).with_suffix("").parts)
        if not _in(name, "workflow", "data", "study", "callbacks.recorder"):
            assert not opening.search(path.read_text(encoding="utf-8")), f"{name} opens a file"


def test_only_the_command_line_reads_the_arguments():
    readers = [path for path in PACKAGE.rglob("*.py") if "sys.argv" in path.read_text(encoding="utf-8")]
    assert sorted(readers) == [PACKAGE / "__main__.py", PACKAGE / "cli.py"]


def test_every_stage_is_a_rule_a_subcommand_and_a_log_of_the_same_stem():
    rules = "\n".join(path.read_text(encoding="utf-8") for path in sorted((ROOT / "rules").glob("*.smk")))
    stems = set(re.findall(r'"nclens (\w+)', rules))
    assert stems == STAGES | {"atlas"}  # a target, of all studies that are there
    for block in re.split(r"\n\s*rule\b", rules)[1:]:
        if block.startswith(" atlas:"):
            continue
        stem = re.search(r'"nclens (\w+)', block)[1]
        name = re.search(r'name:\s*f?"(\w+?)(\{|")', block) or re.match(r" (\w+):", block)
        assert name[1].split("_")[0] == stem
        assert f'R.log("{name[1]}"' in block
        assert f'R.benchmark("{name[1]}"' in block
        assert re.search(r'"""[A-Z][^"]+\."""', block), f"{stem}: one sentence says what the rule does"
    commands = (PACKAGE / "cli.py").read_text(encoding="utf-8")
    assert all(f"nclens.workflow.stages.{stem} import" in commands for stem in STAGES)


def test_the_snakefile_is_a_table_of_contents_and_the_rules_have_little_code():
    assert len((ROOT / "Snakefile").read_text(encoding="utf-8").splitlines()) <= 60
    assert len((ROOT / "rules" / "common.smk").read_text(encoding="utf-8").splitlines()) < 120


def test_conda_and_pip_have_the_same_packages():
    lock = (ROOT / "envs" / "requirements.lock").read_text(encoding="utf-8").splitlines()
    conda = (ROOT / "envs" / "environment.yaml").read_text(encoding="utf-8")
    assert [line for line in lock if "==" in line] == re.findall(r"- (\S+==\S+)", conda)


#: Packages that take a good part of a second to load.
SLOW = {"torch", "torchmetrics", "torchvision", "sklearn", "scipy.optimize", "scipy.stats", "statsmodels"}
SLOW |= {"pandas", "matplotlib", "seaborn", "mlflow", "pydantic", "jinja2", "latex2mathml", "yaml", "snakemake"}
#: Stage -> the slow packages that its import loads; every other one is loaded where it is used, or not at all.
LOADS = {
    "resolve": {"yaml"},
    "prepare": {"torch"},
    "train": {"torch"},
    "ingest": {"torch"},
    "extract": {"torch"},
    "measure": {"torch", "scipy.optimize"},
    "probe": {"torch"},
    "theory": {"scipy.optimize"},
    "predict": {"pandas", "scipy.optimize"},
    "collect": {"pandas", "scipy.optimize", "torch"},
    "judge": {"pandas"},
    "draw": {"pandas", "matplotlib", "seaborn"},
    "report": {"pandas"},
    "track": {"pandas", "mlflow"},
}


def _at_the_top(node):
    """What a module imports when it is imported: not inside functions, nor for the type checker alone."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import):
            yield from (alias.name for alias in child.names)
        elif isinstance(child, ast.ImportFrom):
            yield from (f"{child.module}.{alias.name}" for alias in child.names)
        elif not isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda) and not (
            isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test)
        ):
            yield from _at_the_top(child)


def _loaded(name):
    """Everything that importing a module of ours imports, names of modules and of what is taken from them."""
    seen, found, waiting = set(), set(), [f"nclens.{name}"]
    while waiting:
        imported = waiting.pop()
        found.add(imported)
        parts = imported.split(".")[1:] if imported.startswith("nclens") else []
        for size in range(len(parts) + 1) if imported.startswith("nclens") else ():
            module = ".".join(parts[:size]) or "__init__"
            if module in MODULES and module not in seen:
                seen.add(module)
                waiting += _at_the_top(_tree(module))
    return found


@pytest.mark.parametrize("stage", ["cli", *sorted(STAGES)])
def test_no_stage_loads_a_slow_package_that_it_does_not_use(stage):
    loaded = _loaded(stage if stage == "cli" else f"workflow.stages.{stage}")
    found = {package for package in SLOW if any(_in(name, package) for name in loaded)}
    assert found == LOADS.get(stage, set())
