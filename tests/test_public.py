"""The public face: every name is importable, lazily, and none is a submodule's."""

import ast
import importlib
import pkgutil
import subprocess
import sys
from pathlib import Path

import pytest

import nclens
from nclens.report.mathml import mathml
from tests.process import python

HEAVY = ("torch", "pandas", "numpy", "scipy", "matplotlib", "mlflow", "pydantic")


def test_importing_the_package_loads_nothing_heavy():
    code = f"import sys, nclens; dir(nclens); print([name for name in {HEAVY} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "[]", done.stderr


def test_every_name_is_the_same_at_each_reading_and_after_all_submodules_were_imported():
    first = {name: getattr(nclens, name) for name in nclens.__all__}
    assert first == {name: getattr(nclens, name) for name in nclens.__all__}
    for module in pkgutil.walk_packages(nclens.__path__, "nclens."):
        importlib.import_module(module.name)
    for name, value in first.items():
        assert getattr(nclens, name) is value, name


def test_no_public_name_is_a_submodules():
    submodules = {module.name for module in pkgutil.iter_modules(nclens.__path__)}
    assert not submodules & set(nclens.__all__)


def test_all_is_sorted_and_complete():
    assert sorted(nclens.__all__) == sorted(nclens._MODULES)
    assert set(nclens.__all__) <= set(dir(nclens))
    assert {"metrics", "ufm", "losses", "probes", "__version__"} <= set(dir(nclens))


def test_names_are_where_type_checkers_find_them():
    tree = ast.parse(Path(nclens.__file__).read_text(encoding="utf-8"))
    seen = {
        alias.name: node.module
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.module.startswith("nclens.")
        for alias in node.names
    }
    assert seen == nclens._MODULES


@pytest.mark.lengthy
def test_subpackages_are_attributes():
    code = "import nclens; print(nclens.metrics.__name__, nclens.ufm.__name__, nclens.losses.ls.__name__)"
    assert python(code, check=False).stdout.split() == ["nclens.metrics", "nclens.ufm", "ls"]


@pytest.mark.parametrize("name", ["nothing", "_torchvison", "cli_"])
def test_a_name_that_is_not_there_is_an_attribute_error(name):
    with pytest.raises(AttributeError, match=f"module 'nclens' has no attribute '{name}'"):
        getattr(nclens, name)


@pytest.mark.lengthy
@pytest.mark.parametrize(
    ("package", "name", "extra"),
    [
        ("torchmetrics", "NeuralCollapse", "metrics"),
        ("torchmetrics", "RegressionCollapse", "metrics"),
        ("scipy", "calibration_metrics", "metrics"),
        ("scipy", "regression_collapse", "metrics"),
        ("pandas", "report", "workflow"),
    ],
)
def test_what_needs_an_extra_names_it(package, name, extra):
    gone = f"sys.modules |= {{name: None for name in [*sys.modules, {package!r}] if name.split('.')[0] == {package!r}}}"
    code = f"import sys\n{gone}\nimport nclens\nnclens.{name}"
    done = python(code, check=False)
    assert done.returncode == 1
    wanted = f"nclens.{name} needs the package {package}, which is not installed: pip install 'nclens[{extra}]'"
    assert f"ImportError: {wanted}" in done.stderr


def test_a_formula_names_the_extra_that_it_needs(monkeypatch):
    monkeypatch.setitem(sys.modules, "latex2mathml.converter", None)
    with pytest.raises(ImportError, match=r"latex2mathml, which is not installed: pip install 'nclens\[workflow\]'"):
        mathml.__wrapped__("x")


def test_every_package_that_the_library_imports_has_its_extra():
    imported = set()
    for path in Path(nclens.__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                imported |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                imported.add(node.module.split(".")[0])
    assert imported - sys.stdlib_module_names - {"nclens", "numpy", "torch"} <= set(nclens._EXTRAS)
