"""A study in any folder: what `nclens init` writes, what `nclens run` starts, and both from an installed wheel."""

import os
import re
import shutil
import subprocess
import sys
import sysconfig
import venv
from importlib.metadata import version
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from nclens.cli import app
from nclens.study import ConfigError, read_study
from nclens.workflow import running, start, tables
from nclens.workflow.check import check_config, check_file
from nclens.workflow.files import FileError
from nclens.workflow.trials import described_data, read_data, tried_networks
from tests.project import PARTS, ROOT, planned_runs


class Started(Exception):
    """In place of the process that `nclens run` becomes."""


@pytest.fixture
def here(tmp_path, monkeypatch):
    """An empty folder outside the checkout, in which `os.execv` raises with its command."""

    def become(program, command):
        assert program == command[0] == sys.executable
        raise Started(command[1:])

    monkeypatch.setattr("os.execv", become)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def started(*words):
    """What becomes of `nclens run` with these words: the arguments of Python."""
    with pytest.raises(Started) as caught:
        start.run(words)
    return caught.value.args[0]


def test_the_files_are_the_packages_copy_and_without_one_those_of_the_checkout(tmp_path, monkeypatch):
    assert running.workflow_files() == ROOT
    assert start.snakefile() == str(ROOT / "Snakefile")
    monkeypatch.setattr(running, "__file__", str(tmp_path / "running.py"))
    with pytest.raises(FileNotFoundError, match="_files"):
        running.workflow_files()
    (tmp_path / "_files").mkdir()
    (tmp_path / "_files" / "Snakefile").touch()
    assert running.workflow_files() == tmp_path / "_files"


@pytest.mark.parametrize(
    ("folder", "name"),
    [("my-study", "my-study"), ("a b", "a_b"), ("2024", "my_study"), ("null", "my_study"), ("NaN", "my_study")],
)
def test_the_first_study_is_named_after_its_folder(here, folder, name):
    written = start.init(Path(folder))
    assert written == [Path(folder, "study.yaml"), Path(folder, "my_parts.py")]
    study = check_file(written[0])
    assert study.study == name
    assert sum(1 for _ in study.runs()) == 9
    first = read_study(ROOT / "studies" / "start" / "study.yaml")
    assert read_study(written[0]) == first | {"study": name}


def test_the_first_studys_data_network_and_loss_are_fine(here):
    study = check_file(start.init(Path())[0])
    found = read_data(study, here)
    assert next(described_data(found)) == (
        "digits: 1,078 training and 719 test samples of shape (1, 8, 8), 10 classes of 100 to 115 training samples: "
        "0, 1, 2, 3, 4, 5, 6, 7, 8, 9"
    )
    assert any("5,122 parameters" in line for line in tried_networks(study, found))


@pytest.mark.parametrize("present", ["study.yaml", "my_parts.py"])
def test_nothing_is_overwritten(here, present):
    Path("mine").mkdir()
    Path("mine", present).write_text("kept")
    with pytest.raises(FileExistsError, match=present):
        start.init(Path("mine"))
    assert [path.name for path in Path("mine").iterdir()] == [present]
    assert Path("mine", present).read_text() == "kept"
    for folder in (present, f"{present}/new/deep"):
        with pytest.raises(FileExistsError, match=f"^mine/{present} is a file or a link to nothing; allowed: a folder"):
            start.init(Path("mine", folder))
    with pytest.raises(FileError, match=r"^cannot write a{300}: File name too long$"):
        start.init(Path("a" * 300))


def test_a_study_of_the_package_is_copied_with_its_functions(here):
    study, module = start.init(Path("mine"), "many_classes_omniglot")
    assert read_study(study) == read_study(ROOT / "studies" / "many_classes_omniglot.yaml")
    assert module.name == "omniglot.py"
    assert "snakemake" not in study.read_text()
    assert "schema.json" not in study.read_text()
    assert start.init(Path("other"), "digits") == [Path("other", "study.yaml")]
    assert read_study(Path("other", "study.yaml")) == read_study(ROOT / "workflow_config.yaml")
    with pytest.raises(ValueError, match=r"'nope'.*digits, .*smoke"):
        start.init(Path("third"), "nope")
    assert not Path("third").exists()


def test_run_checks_the_study_removes_a_dead_lock_and_becomes_snakemake(here, capsys):
    start.init(Path())
    lock = Path(".snakemake", "locks", "0.input.lock")
    lock.parent.mkdir(parents=True)
    lock.touch()
    chosen = ["--configfile", "study.yaml", "--snakefile", str(ROOT / "Snakefile")]
    snakemake = ["-P", "-m", "snakemake"]
    assert started() == [*snakemake, *chosen]
    assert capsys.readouterr().out == "study.yaml: fine; runs: 9, experiments: 1\n"
    assert not lock.exists()
    assert started("--cores", "2", "-n", "--", "all") == [*snakemake, *chosen, "--cores", "2", "-n", "--", "all"]
    shutil.move("study.yaml", "other.yaml")
    assert started("other.yaml", "all") == [*snakemake, "--configfile", "other.yaml", *chosen[2:], "all"]
    several = ["--configfile", "a.yaml", "b.yaml"]
    assert started(*several) == [*snakemake, *chosen[2:], *several]
    shutil.copy("other.yaml", "workflow_config.yaml")  # a clone's
    assert started()[3:5] == ["--configfile", "workflow_config.yaml"]


def test_run_starts_nothing_without_a_sound_study(here):
    with pytest.raises(FileNotFoundError, match=r"no study\.yaml here; to write one: nclens init my-study$"):
        start.run([])
    with pytest.raises(FileNotFoundError, match=r"no file nope\.yaml"):
        start.run(["nope.yaml"])
    start.init(Path("mine"))
    with pytest.raises(ConfigError, match="cd mine && nclens run"):
        start.run(["mine"])
    Path("wrong.yaml").write_text("study: 3")
    with pytest.raises(ConfigError, match=r"^wrong\.yaml: .* mistakes"):
        start.run(["wrong.yaml"])
    with pytest.raises(FileNotFoundError, match=r"\(wrong\.yaml\): nclens run FILE"):
        start.run([])


def test_a_study_that_is_not_the_first_word_is_no_target(here):
    start.init(Path())
    for words, command in (
        (["--cores", "1", "other.yaml"], "nclens run other.yaml --cores 1"),
        (["-n", "a b.yml", "--", "all"], "nclens run 'a b.yml' -n -- all"),
    ):
        with pytest.raises(
            ConfigError, match=f"follows Snakemake's options; .* is the first word: {re.escape(command)}$"
        ):
            start.run(words)
    with pytest.raises(
        ConfigError, match=r"other\.yaml follows the study study\.yaml; one .*: nclens run other\.yaml$"
    ):
        start.run(["study.yaml", "--cores", "1", "other.yaml"])
    for words in (["study.yaml", "results/mine/study.yaml"], ["--slurm-partition-config", "parts.yaml"]):
        assert started(*words)[-1] == words[-1]


def test_the_words_of_run_are_passed_on_as_they_stand(monkeypatch):
    given = []
    monkeypatch.setattr(start, "run", given.append)
    for words in (["study.yaml", "--cores", "2", "-nq", "--", "all", "--help"], ["-h"], []):
        assert CliRunner().invoke(app, ["run", *words]).exit_code == 0
        assert given.pop() == words
    assert "SNAKEMAKE OPTIONS" in CliRunner().invoke(app, ["run", "--help"], env={"COLUMNS": "100"}).stdout
    assert not given


def test_init_says_what_comes_next(here):
    done = CliRunner().invoke(app, ["init", "my study"])
    assert done.stdout.splitlines()[1] == "next: cd 'my study' && nclens run"
    assert CliRunner().invoke(app, ["init", "."]).stdout.splitlines()[1] == "next: nclens run"
    assert CliRunner().invoke(app, ["snakefile"]).stdout == f"{ROOT / 'Snakefile'}\n"


def test_the_ui_is_that_of_the_checkout(here):
    with pytest.raises(Started) as caught:
        start.show_ui(5001)
    assert caught.value.args[0] == [str(ROOT / "envs" / "server.py"), "--ui", "--port", "5001"]


def test_outside_a_clone_the_command_is_that_of_the_package(here):
    assert running.command([Path("study.yaml")]) == "nclens run study.yaml"
    assert running.command([here / "a b.yaml"]) == "nclens run 'a b.yaml'"
    assert running.command([Path("a.yaml"), Path("b.yaml")]) == "nclens run --configfile a.yaml b.yaml"
    assert running.command([], here) == "snakemake --cores all"
    assert running.command([Path("a.yaml")], here) == "snakemake --configfile a.yaml --cores all"


def test_outside_a_clone_the_ui_is_a_command_of_the_package(here, capsys):
    tables.write_rows(tables.CLAIMS, Path("claims.csv"), [])
    running.show_verdicts(here)
    assert "The recorded runs: nclens ui" in capsys.readouterr().out


def test_a_module_reads_its_config_and_finds_functions_beside_its_user(here):
    written = start.init(Path("mine"))
    config = yaml.safe_load(written[0].read_text())
    Path("config.yaml").write_text("1: 2")
    assert check_config(config, [Path("config.yaml")], Path("mine")).study == "mine"
    with pytest.raises(ConfigError, match=r"config\.yaml, line 1"):
        check_config(config, [Path("config.yaml")], None)
    with pytest.raises(ConfigError, match="my_parts"):
        check_config(config, [Path("config.yaml")], Path())


# --- an installed wheel ----------------------------------------------------------------------------------------------

TINY = {
    "study": "tiny",
    "datasets": {"digits": {"function": "my_parts:digits", "parameters": {"test_share": 0.5}}},
    "models": {"network": {"function": "my_parts:network", "parameters": {"width": 2}, "dim": 32}},
    "losses": {"ce": {"name": "ce"}},
    "experiments": {
        "tiny": {
            **{"dataset": "digits", "model": "network", "losses": ["ce"], "seeds": [0], "snapshots": 2},
            **{"training": {"epochs": 2, "batch_size": 100, "lr_schedule": {"kind": "constant"}}},
            "figures": [],
        }
    },
}
#: The commands, and the Snakefile, of the page.
CHAPTER = (ROOT / "docs" / "getting_started.md").read_text(encoding="utf-8").split("\n## ")[1]
COMMANDS, SNAKEFILE = re.findall(r"```\w+\n(.*?)```", CHAPTER, re.DOTALL)


class Installed:
    """An environment with a wheel of this checkout, and other people's packages of this one."""

    def __init__(self, folder):
        source = folder / "source"
        source.mkdir()
        for part in (*PARTS, "pyproject.toml", "setup.py", "README.md", "LICENSE"):
            ignore = shutil.ignore_patterns("*.egg-info", "__pycache__")
            copy = shutil.copytree if (ROOT / part).is_dir() else shutil.copy2
            copy(ROOT / part, source / part, **({"ignore": ignore} if copy is shutil.copytree else {}))
        pip = [sys.executable, "-m", "pip", "--disable-pip-version-check"]
        # Only an old setuptools needs another one, which pip downloads.
        alone = [] if int(version("setuptools").split(".")[0]) < 77 else ["--no-build-isolation"]
        self.call(*pip, "wheel", "--quiet", "--no-deps", *alone, "--wheel-dir", folder, source)
        (wheel,) = folder.glob("*.whl")
        venv.create(folder / "venv", symlinks=True)
        self.python = folder / "venv" / "bin" / "python"
        packages = self.call(self.python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))").strip()
        # Of a folder that is named so, no .pth is read: the editable checkout stays outside.
        Path(packages, "others.pth").write_text(sysconfig.get_path("purelib"))
        options = ["--quiet", "--no-deps", "--no-index", "--force-reinstall", "--no-compile"]
        self.call(*pip, "--python", self.python, "install", *options, wheel)
        shutil.rmtree(source)
        self.package = Path(packages, "nclens")

    def call(self, *command, cwd=None, code=0):
        """Return what a command prints."""
        environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        environment |= {"OMP_NUM_THREADS": "1", "TERM": "dumb"}
        environment.pop("MLFLOW_TRACKING_URI", None)
        done = subprocess.run(list(map(str, command)), cwd=cwd, env=environment, capture_output=True, text=True)
        assert done.returncode == code, done.stdout + done.stderr
        return done.stdout + done.stderr

    def nclens(self, *words, cwd, code=0):
        return self.call(self.python.with_name("nclens"), *words, cwd=cwd, code=code)


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    return Installed(tmp_path_factory.mktemp("installed"))


@pytest.mark.slow
@pytest.mark.workflow
def test_a_wheel_runs_a_study_in_an_empty_folder(installed, tmp_path):
    files = installed.package / "workflow" / "_files"
    assert installed.nclens("snakefile", cwd=tmp_path) == f"{files / 'Snakefile'}\n"
    for part in PARTS:
        packed = files / part
        assert packed.exists() == (part != "src"), part
    assert (files / "rules/common.smk").read_bytes() == (ROOT / "rules/common.smk").read_bytes()

    install, init, enter, check, run = COMMANDS.splitlines()
    assert (install, enter, run) == ('pip install "nclens[workflow]"', "cd my-study", "nclens run")
    assert init in installed.nclens("run", cwd=tmp_path, code=1)
    installed.nclens(*init.split()[1:], cwd=tmp_path)
    folder = tmp_path / "my-study"
    assert "5,122 parameters" in installed.nclens(*check.split()[1:], cwd=folder)
    planned = installed.nclens("run", "-n", "--cores", "1", cwd=folder)
    assert "study.yaml: fine; runs: 9, experiments: 1" in planned
    assert f"{files}/profiles/default" in planned
    assert len(planned_runs(planned)["train"]) == 9

    (folder / "study.yaml").write_text(yaml.safe_dump(TINY))
    target = "results/tiny/digits/network/ce/seed0/metrics.csv"
    installed.nclens(*run.split()[1:], "study.yaml", target, "--cores", "1", cwd=folder)
    rows = (folder / target).read_text().splitlines()
    assert {row.split(",")[0] for row in rows[1:]} == {"1", "2"}


@pytest.mark.slow
@pytest.mark.workflow
def test_somebody_elses_snakefile_uses_the_wheels_as_a_module(installed, tmp_path):
    installed.nclens("init", ".", cwd=tmp_path)
    (tmp_path / "Snakefile").write_text(SNAKEFILE)
    output = installed.call(installed.python, "-m", "snakemake", "-n", "--cores", "1", cwd=tmp_path)
    planned = planned_runs(output)
    assert {stage: len(runs) for stage, runs in planned.items()} == {"train": 9, "extract": 9, "measure": 9}
