"""Arrows point down only: cli -> stages -> the library; heavy packages are imported in their own rooms."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "src" / "nclens"
MODULES = {
    ".".join(path.relative_to(PACKAGE).with_suffix("").parts).removesuffix(".__init__"): path
    for path in sorted(PACKAGE.rglob("*.py"))
}
STAGES = {module.removeprefix("stages.") for module in MODULES if module.startswith("stages.")}


def imports(module):
    """Everything that a module imports, at the top or inside functions."""
    found = set()
    for node in ast.walk(ast.parse(MODULES[module].read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{module}: imports are absolute"
            found |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def uses(module, package):
    return any(name == package or name.startswith(package + ".") for name in imports(module))


def family(module, *names):
    return any(module == name or module.startswith(name + ".") for name in names)


LIBRARY = [
    module
    for module in MODULES
    if module not in ("__init__", "stages")
    and not family(module, "cli", "stages", "config", "provenance", "files", "terminal", "devices", "failures")
]


@pytest.mark.parametrize("module", LIBRARY)
def test_the_library_knows_no_stage_no_configuration_no_command_line(module):
    for above in (
        "nclens.cli",
        "nclens.stages",
        "nclens.config",
        "nclens.provenance",
        "nclens.files",
        "mlflow",
        "typer",
    ):
        assert not uses(module, above), f"{module} imports {above}"


@pytest.mark.parametrize("stage", sorted(STAGES))
def test_stages_never_import_each_other_nor_what_is_above(stage):
    for other in (STAGES - {stage}) | {""}:
        assert not uses(f"stages.{stage}", f"nclens.stages.{other}".rstrip(".")), f"{stage} imports {other}"
    assert not uses(f"stages.{stage}", "nclens.cli")


@pytest.mark.parametrize("module", MODULES)
def test_heavy_packages_stay_in_their_rooms(module):
    assert not uses(module, "mlflow") or module == "stages.track"
    assert not uses(module, "snakemake")
    for drawing in ("matplotlib", "seaborn"):
        assert not uses(module, drawing) or family(module, "figures")
    # It is imported through nclens.vision, which mends it, and only when something of it is used.
    assert not uses(module, "torchvision")
    if family(module, "config", "provenance"):
        assert not uses(module, "torch")


def test_only_the_command_line_reads_the_arguments():
    readers = [module for module, path in MODULES.items() if "sys.argv" in path.read_text(encoding="utf-8")]
    assert readers == ["cli"]


def test_every_stage_is_a_rule_a_subcommand_and_a_log_of_the_same_stem():
    rules = "\n".join(path.read_text(encoding="utf-8") for path in sorted((ROOT / "rules").glob("*.smk")))
    stems = set(re.findall(r'"nclens (\w+)', rules))
    assert stems == STAGES
    for block in re.split(r"\n\s*rule\b", rules)[1:]:
        stem = re.search(r'"nclens (\w+)', block)[1]
        name = re.search(r'name:\s*f?"(\w+?)(_\{|")', block) or re.match(r" (\w+):", block)
        assert name[1].split("_")[0] == stem
        assert f"/logs/{stem}" in block
        assert f"/benchmarks/{stem}" in block
        assert re.search(r'"""[A-Z][^"]+\."""', block), f"{stem}: one sentence says what the rule does"
    commands = (PACKAGE / "cli.py").read_text(encoding="utf-8")
    assert all(f"\ndef {stem}(" in commands for stem in stems)


def test_the_snakefile_is_a_table_of_contents():
    assert len((ROOT / "Snakefile").read_text(encoding="utf-8").splitlines()) <= 60


def test_conda_and_pip_have_the_same_packages():
    lock = (ROOT / "envs" / "requirements.lock").read_text(encoding="utf-8").splitlines()
    conda = (ROOT / "envs" / "environment.yaml").read_text(encoding="utf-8")
    assert [line for line in lock if "==" in line] == re.findall(r"- (\S+==\S+)", conda)
