"""Archives of a study: what they hold, that each file is checked, and that no damaged or foreign one is unpacked."""

import contextlib
import copy
import errno
import hashlib
import json
import os
import re
import shlex
import shutil
import stat
import struct
import zipfile
from pathlib import Path

import pandas as pd
import pytest
import torch
import yaml
from typer.testing import CliRunner

from nclens import cli
from nclens.study import ConfigError, load_study
from nclens.workflow import tables
from nclens.workflow.check import check_file
from nclens.workflow.epochs import has_epoch, read_epoch
from nclens.workflow.files import FileError
from nclens.workflow.finished import archive as archives
from nclens.workflow.finished.archive import MANIFEST, METADATA, Archive, unpack
from nclens.workflow.finished.crate import About
from nclens.workflow.finished.pack import Chosen, pack
from nclens.workflow.plan import Plan
from tests.epochs import write_all
from tests.finished import DATA, finish
from tests.process import ROOT

RECORD = {
    "code": "ab12",
    "git_revision": "f" * 40,
    "versions": {"nclens": "0.1.0", "torch": "2.6.0", "snakemake": "9.27.0"},
    "data_sha256": DATA["sha256"],
    "dim": 32,
}
DESCRIBED = {"source": "digits <of the post>", "licence": "CC BY 4.0"}


def complete(raw, folders=None):
    """Write every file that a study promises, its networks and features too; return its plan."""
    folder = finish(raw, f"results/{raw['study']}", DATA | DESCRIBED, folders)
    plan = Plan(check_file(folder.resolved) if folders is None else load_study(raw, folders))
    for path in plan.promised():
        if not path.is_file():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(f"content of {path}\n")
    for number, (name, run) in enumerate(plan.runs.items()):
        of, epochs = plan.folder.run(name), plan.experiment(run).snapshot_epochs
        write_all(of.snapshots, {epoch: {"weight": torch.full((2,), float(epoch + number))} for epoch in epochs})
        ends = {"finished": f"2026-01-02T03:0{number}:30.000+00:00", "wall_time": 60.0}
        of.run.write_text(json.dumps({**RECORD, **ends, "spec": {"snapshots": epochs}}))
    pd.DataFrame({"loss": ["ce"], "value": [0.5]}).to_parquet(plan.folder.metrics)
    folder.log("train", "a").parent.mkdir(parents=True)
    folder.log("train", "a").write_text("trained\n")
    folder.log("track_study").write_text("recorded\n")
    folder.report.write_text("<title>page</title>")
    folder.claims.write_text(",".join(tables.CLAIMS.columns) + "\n")
    return plan


@pytest.fixture
def plan(raw_study, tmp_path, monkeypatch):
    """The smoke study, finished, with its YAML file."""
    monkeypatch.chdir(tmp_path)
    Path("studies").mkdir()
    shutil.copy(ROOT / "studies" / "smoke.yaml", "studies")
    return complete(raw_study)


def below(folder):
    return {path.relative_to(folder).as_posix() for path in Path(folder).rglob("*") if path.is_file()}


def names_in(archive):
    with zipfile.ZipFile(archive) as file:
        return [entry.filename for entry in file.infolist() if not entry.is_dir()]


def sha256(content):
    return hashlib.sha256(content).hexdigest()


# --- what an archive holds -------------------------------------------------------------------------------------------


def test_an_unpacked_study_is_the_one_that_was_packed(plan):
    written, left_out = pack("results/smoke")
    assert (written, left_out) == (Path("smoke.zip"), [])
    assert unpack("smoke.zip", "there") == Path("there/results/smoke")
    gone = {path for path in below("results/smoke") if not Path("there/results/smoke", path).exists()}
    runs = [f"mnist5k/resnet8/{loss}/seed{seed}" for loss in ("ce", "ls") for seed in (0, 1)]
    assert gone == {
        *("mlflow.json", "data/mnist5k.safetensors", "logs/track_study.log"),
        # Probes that the study does not have.
        *(f"{run}/{name}" for run in runs for name in ("features.safetensors", "snapshots.safetensors", "mlflow.json")),
        *(f"{run}/probes.csv" for run in runs),
    }
    for name in below("there/results"):
        assert Path("there/results", name).read_bytes() == Path("results", name).read_bytes(), name
    assert Path("there/studies/smoke.yaml").read_bytes() == (ROOT / "studies" / "smoke.yaml").read_bytes()
    assert Path("there/rules/train.smk").read_bytes() == (ROOT / "rules" / "train.smk").read_bytes()
    assert {"Snakefile", "envs/requirements.lock", "profiles/default/config.yaml", "README.md"} <= below("there")
    # One time: Snakemake finds no result older than what it is made from.
    assert len({path.stat().st_mtime_ns for path in Path("there").rglob("*") if path.is_file()}) == 1
    assert not [path for path in Path().iterdir() if path.name.endswith(".part")]


def test_the_same_files_give_the_same_bytes_wherever_they_are(plan, monkeypatch):
    pack("results/smoke")
    content = Path("smoke.zip").read_bytes()
    pack("studies/smoke.yaml", "again.zip")
    for path in [path for path in Path("results").rglob("*") if path.is_file()]:
        os.utime(path, (1e9, 1e9))
    pack(Path("results/smoke").absolute(), "touched.zip")
    unpacked = unpack("smoke.zip")
    pack(unpacked, "unpacked.zip")
    monkeypatch.chdir("smoke")
    pack("results/smoke", "../inside.zip")
    for name in ("again", "touched", "unpacked", "inside"):
        assert Path("..", f"{name}.zip").read_bytes() == content, name


def test_every_file_has_its_checksum_in_the_list_and_in_the_metadata(plan):
    pack("results/smoke")
    with zipfile.ZipFile("smoke.zip") as file:
        contents = {name: file.read(name) for name in names_in("smoke.zip")}
        assert {entry.date_time for entry in file.infolist()} == {(1980, 1, 1, 0, 0, 0)}
        assert file.namelist() == sorted(file.namelist())
    lines = contents[MANIFEST].decode().splitlines()
    assert lines == [f"{sha256(contents[name])}  {name}" for name in sorted(contents) if name != MANIFEST]
    graph = {entity["@id"]: entity for entity in json.loads(contents[METADATA])["@graph"]}
    for name in set(contents) - {MANIFEST, METADATA}:
        assert graph[name]["sha256"] == sha256(contents[name])
        assert graph[name]["contentSize"] == str(len(contents[name]))
    assert {part["@id"] for part in graph["./"]["hasPart"]} >= set(contents) - {METADATA, "ro-crate-preview.html"}


def test_the_metadata_are_a_workflow_run_crate(plan):
    about = About("Two <losses>", None, ("Ada Lovelace <0000-0002-1825-0097>", "Emmy Noether"), "cc-by-4.0")
    pack("results/smoke", about=about)
    unpack("smoke.zip")
    graph = {e["@id"]: e for e in json.loads(Path("smoke", METADATA).read_text(encoding="utf-8"))["@graph"]}
    root, workflow = graph["./"], graph["Snakefile"]
    assert root["mainEntity"] == {"@id": "Snakefile"}
    assert workflow["@type"] == ["File", "SoftwareSourceCode", "ComputationalWorkflow"]
    assert graph[workflow["programmingLanguage"]["@id"]]["version"] == "9.27.0"
    profiles = [entry["@id"] for entry in root["conformsTo"]]
    assert profiles == [
        "https://w3id.org/ro/wfrun/process/0.5",
        "https://w3id.org/ro/wfrun/workflow/0.5",
        "https://w3id.org/workflowhub/workflow-ro-crate/1.0",
    ]
    assert (root["name"], root["datePublished"]) == ("Two <losses>", "2026-01-02")
    assert graph[root["license"]["@id"]]["name"] == "CC-BY-4.0"
    authors = [{"@id": "https://orcid.org/0000-0002-1825-0097"}, {"@id": "#Emmy%20Noether"}]
    assert root["author"] == authors
    action = graph[root["mentions"]["@id"]]
    assert (action["@type"], action["instrument"], action["agent"]) == ("CreateAction", {"@id": "Snakefile"}, authors)
    # From the start of the first training to the end of the last.
    assert action["startTime"] == "2026-01-02T02:59:30+00:00"
    assert action["endTime"] == "2026-01-02T03:03:30+00:00"
    objects = {entry["@id"] for entry in action["object"]}
    assert objects == {"studies/smoke.yaml", "envs/requirements.lock", "envs/environment.yaml", "#data-mnist5k"}
    assert graph["#data-mnist5k"]["license"] == "CC BY 4.0"
    results = {entry["@id"] for entry in action["result"]}
    assert {"results/smoke/report.html", "results/smoke/claims.csv", "results/smoke/study.yaml"} <= results
    assert not any("/logs/" in name for name in results)
    values = {entity["value"] for entity in graph.values() if entity["@type"] == "PropertyValue"}
    assert values == {"f" * 40, "ab12"}
    needs = {graph[entry["@id"]]["name"]: graph[entry["@id"]] for entry in workflow["softwareRequirements"]}
    assert needs["torch"]["softwareVersion"] == "2.6.0"
    preview = Path("smoke/ro-crate-preview.html").read_text(encoding="utf-8")
    assert "Two &lt;losses&gt;" in preview
    assert "<losses>" not in preview
    assert 'href="results/smoke/report.html"' in preview


@pytest.mark.parametrize(
    ("chosen", "more"),
    [
        (Chosen(networks="all"), {"snapshots.safetensors"}),
        (Chosen(features=True), {"features.safetensors"}),
        (Chosen(data=True), {"mnist5k.safetensors"}),
    ],
)
def test_networks_features_and_data_are_added_on_request(plan, chosen, more):
    pack("results/smoke")
    pack("results/smoke", "more.zip", chosen=chosen)
    added = set(names_in("more.zip")) - set(names_in("smoke.zip"))
    assert {name.rpartition("/")[2] for name in added} == more
    unpack("more.zip")
    for name in added:
        assert Path("more", name).read_bytes() == Path(name).read_bytes()


def test_of_the_networks_the_last_snapshots_may_do(plan):
    pack("results/smoke", chosen=Chosen(networks="last"))
    unpack("smoke.zip")
    name = "results/smoke/mnist5k/resnet8/ls/seed1/snapshots.safetensors"
    last = read_epoch(name, 6, "train")
    found = read_epoch(Path("smoke", name), 6, "train")
    assert found[1] == last[1]
    assert not has_epoch(Path("smoke", name), 1, "train")
    with pytest.raises(ValueError, match="--networks first: allowed: last, all"):
        pack("results/smoke", chosen=Chosen(networks="first"))


def test_a_complete_archive_needs_what_was_asked_for(plan):
    path = plan.folder.run("mnist5k/resnet8/ce/seed0").snapshots
    path.unlink()
    pack("results/smoke")
    with pytest.raises(FileError, match=f"{path} is missing, which was asked for"):
        pack("results/smoke", "all.zip", chosen=Chosen(networks="all"))
    assert not Path("all.zip").exists()


def test_the_users_own_functions_go_in_with_what_they_import_and_read(raw_study, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("mine").mkdir()
    Path("mine/parts.py").write_text("import helpers\n\n\ndef loss(logits, targets):\n    return helpers.of(logits)\n")
    Path("mine/helpers.py").write_text("def of(logits):\n    return logits.sum()\n")
    Path("mine/unused.py").write_text("")
    Path("mine/words").mkdir()
    Path("mine/words/a.txt").write_text("a")
    elsewhere = tmp_path.parent / f"{tmp_path.name}.txt"
    elsewhere.write_text("outside")
    Path("notes.txt").write_text("beside the folder of the configuration")
    Path("README.md").write_text("a name that every archive has")
    files = ["words", "../notes.txt", "../README.md", str(elsewhere)]
    raw_study["losses"]["ls"] = {"function": "parts:loss", "label": "own", "files": files}
    raw_study["study"] = "own"
    Path("mine/study.yaml").write_text(yaml.safe_dump(raw_study))
    complete(raw_study, ["mine"])
    written, left_out = pack("mine/study.yaml")
    assert left_out == ["mine/../README.md", str(elsewhere)]
    assert "notes.txt" in names_in(written)
    mine = {"mine/study.yaml", "mine/parts.py", "mine/helpers.py", "mine/words/a.txt"}
    assert {name for name in names_in(written) if name.startswith("mine/")} == mine
    # By the folder of its results nobody knows where they are.
    with pytest.raises(
        ConfigError, match=r"(?s)there is no file .*parts.py.*by the study's YAML file in place of results/own"
    ):
        pack("results/own")


def test_runs_of_another_study_go_in_with_what_the_page_shows_of_them(plan, raw_study):
    raw = copy.deepcopy(raw_study)
    raw |= {"study": "mine", "losses": {"maxsup": {"name": "maxsup", "alpha": 0.1}}}
    entry = raw["experiments"].pop("smoke")
    raw["experiments"]["mine"] = entry | {
        "losses": ["maxsup", {"study": "results/smoke", "experiment": "smoke", "loss": "ce"}]
    }
    complete(raw, ["."])
    Path("results/mine/reused.json").write_text("{}")
    pack("results/mine")
    found = {name for name in names_in("mine.zip") if name.startswith("results/smoke/")}
    runs = [f"results/smoke/mnist5k/resnet8/ce/seed{seed}" for seed in (0, 1)]
    assert found == {
        *("results/smoke/study.yaml", "results/smoke/data/mnist5k.json"),
        *(f"{run}/{name}" for run in runs for name in ("run.json", "history.csv", "metrics.csv", "film.safetensors")),
    }
    assert "studies/smoke.yaml" in names_in("mine.zip")
    assert unpack("mine.zip") == Path("mine/results/mine")


# --- what is not packed ----------------------------------------------------------------------------------------------

RUNS = "`nclens run studies/smoke.yaml`"


def test_a_study_that_has_not_run_or_is_unfinished_is_not_packed(plan):
    for path in (plan.folder.claims, plan.folder.run("mnist5k/resnet8/ce/seed1").metrics):
        kept = path.read_bytes()
        path.unlink()
        with pytest.raises(FileError, match=f"results/smoke is unfinished, {path} is missing: {RUNS} finishes"):
            pack("results/smoke")
        path.write_bytes(kept)
    os.utime(plan.folder.report, (1, 1))
    with pytest.raises(FileError, match=r"its page is older than results/smoke/metrics.parquet"):
        pack("studies/smoke.yaml")
    shutil.rmtree("results")
    for given in ("results/smoke", "studies/smoke.yaml"):
        with pytest.raises(FileError, match=f"results/smoke has no results yet, .*: {RUNS} makes them"):
            pack(given)
    with pytest.raises(FileError, match="there is no folder or file results/other; allowed"):
        pack("results/other")
    assert not list(Path().glob("*.zip"))


def test_a_configuration_that_has_changed_is_not_taken_for_that_of_the_results(plan):
    path = Path("studies/smoke.yaml")
    path.write_text(path.read_text().replace("smoothing: 0.05", "smoothing: 0.1"))
    with pytest.raises(ConfigError, match=f"{path} has changed since results/smoke was made: {RUNS}"):
        pack(path)
    pack("results/smoke")
    assert "studies/smoke.yaml" not in names_in("smoke.zip")
    unpack("smoke.zip")
    assert Path("smoke/config/smoke.yaml").read_bytes() == plan.folder.resolved.read_bytes()
    os.utime(plan.folder.report, (1, 1))
    with pytest.raises(FileError, match=f"its page is older than .*: {RUNS} brings it up to date"):
        pack("results/smoke")


def test_a_file_that_changes_while_it_is_packed_is_named(plan, monkeypatch):
    monkeypatch.setattr("nclens.workflow.finished.pack.sha256_of", lambda path: "0" * 64)
    with pytest.raises(FileError, match="has changed while it was packed"):
        pack("results/smoke")
    assert not [path for path in Path().iterdir() if "smoke.zip" in path.name]


def test_only_an_archive_of_the_same_study_is_replaced(plan, packed_other):
    pack("results/smoke")
    before = Path("smoke.zip").read_bytes()
    pack("results/smoke", about=About(title="Another"))
    assert Path("smoke.zip").read_bytes() != before
    Path("cut.zip").write_bytes(before[:-9])
    Path("text.zip").write_text("mine")
    with zipfile.ZipFile("photos.zip", "w") as file:
        file.writestr("a.jpg", b"mine")
    Path("dangling.zip").symlink_to("nowhere")
    for name in ("cut.zip", "text.zip", "photos.zip", "dangling.zip", packed_other):
        kept = Path(name).read_bytes() if Path(name).exists() else None
        with pytest.raises(FileError, match=f"^{name} is there already, and is no sound archive of the study smoke"):
            pack("results/smoke", name)
        assert (Path(name).read_bytes() if Path(name).exists() else None) == kept


@pytest.fixture
def packed_other(good):
    """The archive of a study of another name."""
    lines = {name.replace("results/smoke/", "results/other/"): content for name, content in good[1].items()}
    return written(listed(lines | {METADATA: of_study("other")}), path="other.zip")


def test_a_name_may_be_as_long_as_the_file_system_allows(plan):
    pack("results/smoke", f"{'a' * 246}.zip")
    assert unpack(f"{'a' * 246}.zip", "b" * 250).is_dir()
    for call in (lambda: pack("results/smoke", f"{'a' * 260}.zip"), lambda: unpack(f"{'a' * 246}.zip", "b" * 260)):
        with pytest.raises(FileError, match=r"^cannot write (a{260}\.zip|b{260}): File name too long$"):
            call()
    with pytest.raises(FileError, match=r"^a{260}\.zip is missing"):
        unpack(f"{'a' * 260}.zip")


@pytest.mark.parametrize("to", ["smoke.tar", "studies"])
def test_an_archive_ends_with_zip(plan, to):
    with pytest.raises(ValueError, match=f"--to {to}: allowed: a file that ends with .zip"):
        pack("results/smoke", to)


def test_a_full_disk_leaves_nothing(plan, monkeypatch):
    pack("results/smoke", "good.zip")
    before = sorted(Path().iterdir())

    def full(*arguments):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patched:
        patched.setattr(archives, "_digest", full)
        for call in (lambda: pack("results/smoke"), lambda: unpack("good.zip", "new")):
            with pytest.raises(FileError, match=r"cannot write \S+: No space left on device"):
                call()
    usage = shutil.disk_usage(".")
    monkeypatch.setattr(archives.shutil, "disk_usage", lambda path: usage._replace(free=1000))
    with pytest.raises(FileError, match="cannot write new: No space left on device"):
        unpack("good.zip", "new")
    assert sorted(Path().iterdir()) == before


# --- what is not unpacked --------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    """The archive of the smoke study, and its contents by name."""
    with contextlib.chdir(tmp_path_factory.mktemp("good")):
        complete(yaml.safe_load((ROOT / "studies" / "smoke.yaml").read_text(encoding="utf-8")))
        path = pack("results/smoke")[0].absolute()
    with zipfile.ZipFile(path) as file:
        return path, {name: file.read(name) for name in names_in(path)}


@pytest.fixture
def packed(good, tmp_path, monkeypatch):
    """The contents of `good.zip`, which is in the current folder."""
    monkeypatch.chdir(tmp_path)
    shutil.copy(good[0], "good.zip")
    return good[1]


def written(contents, extra=(), path="bad.zip"):
    """Write an archive of any names and contents, with further entries."""
    with zipfile.ZipFile(path, "w") as file:
        for name, content in [*contents.items(), *extra]:
            file.writestr(name if isinstance(name, zipfile.ZipInfo) else zipfile.ZipInfo(name), content)
    return path


def listed(contents):
    """The contents with a list of checksums that fits them."""
    lines = "".join(f"{sha256(content)}  {name}\n" for name, content in contents.items() if name != MANIFEST)
    return contents | {MANIFEST: lines.encode()}


def link(name, target="/etc/passwd"):
    entry = zipfile.ZipInfo(name)
    entry.create_system, entry.external_attr = 3, (stat.S_IFLNK | 0o777) << 16
    return entry, target


def of_study(name):
    """Metadata of a crate that describes a study of this name."""
    return json.dumps({"@graph": [{"@id": f"results/{name}/", "@type": "Dataset"}]}).encode()


CLAIMS = "results/smoke/claims.csv"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda good: {**good, CLAIMS: b"altered"}, f"is damaged: {CLAIMS} is not what was packed"),
        (lambda good: {k: v for k, v in good.items() if k != CLAIMS}, f"is damaged: {CLAIMS} is missing"),
        (lambda good: {**good, "more.txt": b""}, f"is damaged: more.txt is not in {MANIFEST}"),
        (lambda good: {**good, METADATA: b"{}"}, f"is damaged: {METADATA} is not what was packed"),
        (lambda good: {**good, MANIFEST: b"no list\n"}, f"is damaged: {MANIFEST} has a line that is no checksum"),
        (lambda good: {k: v for k, v in good.items() if k != MANIFEST}, f"is no archive .*: it has no {MANIFEST}"),
        (lambda good: listed({"a.txt": b"a"}), f"is damaged: {METADATA} is missing"),
        (lambda good: listed({METADATA: b"[]"}), f"is no archive .*: its {METADATA} is no RO-Crate's"),
        (lambda good: listed({METADATA: b'{"@graph": []}'}), f"is no archive .*: its {METADATA} describes no study"),
        *(
            (lambda good, name=name: listed({**good, name: b"out"}), "is no path below the archive's folder")
            for name in ("../out", "/tmp/out", "a/../../out", "a\\..\\out", "C:out", "a//b", "./a", "a\nb")
        ),
        *(
            (lambda good, name=name: listed({**good, name: b"out"}), "is no path below the archive's folder")
            for name in ("a" * 256, "é" * 128, "d/" * 100 + "a", "d/" * 2000 + "a")
        ),
        *(
            (
                lambda good, name=name: listed({**good, METADATA: of_study(name)}),
                "describes the study .*, of which it has no",
            )
            for name in ("..", ".", "%2e%2e", "none", "a\\b", "a" * 300)
        ),
        *(
            (lambda good, text=text: listed({**good, METADATA: text}), f"its {METADATA} is no RO-Crate's")
            for text in (
                b"[" * 100_000,
                b'{"@graph":' * 100_000,
                b'{"@graph": ["a"]}',
                b'{"@graph": {"a": 1}}',
                b"",
                b"\xff",
            )
        ),
        (lambda good: listed({**good, "Snakefile/a": b""}), "its entry Snakefile is a file and a folder"),
        (lambda good: {"a.txt": b"no crate"}, f"is no archive .*: it has no {MANIFEST}"),
    ],
)
def test_a_damaged_or_foreign_archive_is_not_unpacked(packed, change, words):
    before = sorted(Path().iterdir())
    path = written(change(packed))
    with pytest.raises(FileError, match=f"^{path} .*{words}"):
        unpack(path, "new")
    Path(path).unlink()
    assert sorted(Path().iterdir()) == before


def test_links_doubles_and_unknown_compressions_are_refused(packed):
    with pytest.raises(FileError, match="its entry link is a link or a device"):
        unpack(written(packed, [link("link")]), "new")
    with pytest.warns(UserWarning, match="Duplicate"):
        path = written(packed, [(CLAIMS, b"other")])
    with pytest.raises(FileError, match=f"it has two entries {CLAIMS}"):
        unpack(path, "new")
    raw = bytearray(Path("good.zip").read_bytes())
    place = raw.rindex(b"PK\x01\x02")  # the last entry of the directory: its compression, then a password
    for offset, value, words in ((10, 99, "compression"), (8, 1, "encrypted")):
        changed = raw.copy()
        struct.pack_into("<H", changed, place + offset, value)
        Path("bad.zip").write_bytes(changed)
        with pytest.raises(FileError, match=f"bad.zip is damaged: .*{words}"):
            unpack("bad.zip", "new")
    assert not Path("new").exists()


@pytest.mark.parametrize(
    ("offset", "form", "value", "words"),
    [
        (20, "I", 0xFFFFFFFE, "lies outside the file, or has not the bytes that it says"),
        (24, "I", 0x7FFFFFFF, "lies outside the file, or has not the bytes that it says"),
        (42, "I", 0xFFFFFFFE, "lies outside the file, or has not the bytes that it says"),
        (42, "I", 7, "Bad magic number"),
        (28, "HHH", (0, 0, 15), "its entry '' is no path below the archive's folder"),
    ],
)
def test_an_entry_that_cannot_be_is_refused(packed, offset, form, value, words):
    raw = bytearray(Path("good.zip").read_bytes())
    values = value if isinstance(value, tuple) else (value,)
    struct.pack_into(f"<{form}", raw, raw.rindex(b"PK\x01\x02") + offset, *values)
    Path("bad.zip").write_bytes(raw)
    with pytest.raises(FileError, match=f"^bad.zip is (damaged|no archive).*{words}"):
        unpack("bad.zip", "new")
    assert not Path("new").exists()


def test_folders_of_their_own_are_none_or_those_of_files(packed):
    for name, content, words in (
        ("extra/", b"", "is damaged: extra/ is not in manifest-sha256.txt"),
        ("results/smoke/", b"data", "its entry results/smoke/ is a folder with content of its own"),
        ("../", b"", "its entry '../' is no path below"),
    ):
        with pytest.raises(FileError, match=words):
            unpack(written(packed, [(name, content)]), "new")
    assert unpack(written(packed, [("results/", b""), ("results/smoke/", b"")]), "new") == Path("new/results/smoke")


def test_folders_that_were_made_go_with_what_was_not_unpacked(packed):
    path = written({**packed, CLAIMS: b"altered"})
    Path("there").mkdir()
    with pytest.raises(FileError, match="is not what was packed"):
        unpack(path, "there/new/deep/deeper")
    assert not list(Path("there").iterdir())


@pytest.mark.parametrize("number", range(8))
def test_an_archive_that_was_cut_or_has_a_wrong_byte_is_not_unpacked(packed, number):
    good = Path("good.zip").read_bytes()
    place = len(good) * number // 8 + 100 * number
    bad = bytearray(good)
    bad[place] ^= 0xFF
    before = sorted(Path().iterdir())
    for content in (good[:place], bad):
        Path("bad.zip").write_bytes(content)
        try:
            found = unpack("bad.zip", "new")
        except FileError:
            Path("bad.zip").unlink()
            assert sorted(Path().iterdir()) == before
        else:  # a byte of a header that says nothing of the content, such as a time
            assert content is bad
            assert {name: Path("new", name).read_bytes() for name in below(found.parents[1])} == packed


def test_an_archive_that_another_program_has_compressed_is_unpacked(packed):
    with zipfile.ZipFile("other.zip", "w", zipfile.ZIP_DEFLATED) as file:
        for name, content in packed.items():
            file.writestr(name, content)
    assert below(unpack("other.zip").parents[1]) == set(packed)


def test_what_exists_is_not_overwritten(packed):
    Path("file").write_text("mine")
    Path("good").mkdir()
    Path("dangling").symlink_to("nowhere")
    for to in ("file", None, "dangling"):
        with pytest.raises(FileError, match=f"{to or 'good'} exists already: choose another folder by --to"):
            unpack("good.zip", to)
    assert Path("file").read_text() == "mine"
    assert not list(Path("good").iterdir())
    with pytest.raises(
        FileError, match="cannot write file/new: file is a file or a link to nothing; allowed: a folder"
    ):
        unpack("good.zip", "file/new")


def test_an_archive_that_is_not_there_or_no_zip(tmp_path):
    with pytest.raises(FileError, match=r"none.zip is missing: `nclens pack STUDY` writes an archive"):
        unpack(tmp_path / "none.zip")
    (tmp_path / "text.zip").write_text("text")
    with pytest.raises(FileError, match=r"text.zip is damaged: File is not a zip file"):
        Archive(tmp_path / "text.zip")


# --- reading without unpacking ---------------------------------------------------------------------------------------


def test_tables_are_read_without_unpacking(plan):
    pack("results/smoke")
    before = sorted(Path().iterdir())
    found = Archive("smoke.zip")
    assert found.study == "smoke"
    assert set(found.files) == {
        name.removeprefix("results/smoke/") for name in names_in("smoke.zip") if name.startswith("results/smoke/")
    }
    with found.open("metrics.parquet") as file:
        assert pd.read_parquet(file).to_dict("list") == {"loss": ["ce"], "value": [0.5]}
    with found.open("mnist5k/resnet8/ce/seed0/metrics.csv") as file:
        assert list(pd.read_csv(file)["value"]) == [0.5, 0.5, 0.5]
    with (
        pytest.raises(FileError, match=r"smoke.zip: has no claims.txt; it has: benchmarks|claims.csv"),
        found.open("claims.txt"),
    ):
        pass
    with pytest.raises(RuntimeError, match="of the block"), found.open("claims.csv"):
        raise RuntimeError("of the block")
    assert sorted(Path().iterdir()) == before


def test_an_altered_table_is_not_read(packed):
    found = Archive(written({**packed, CLAIMS: b"altered"}))
    with found.open("claims.md") as file:
        assert file.read() == packed["results/smoke/claims.md"]
    with (
        pytest.raises(FileError, match=f"bad.zip is damaged: {CLAIMS} is not what was packed"),
        found.open("claims.csv"),
    ):
        pass


def test_the_path_of_the_documentation(plan):
    page = (ROOT / "docs" / "archive.md").read_text(encoding="utf-8")
    commands = re.findall(r"```sh\n(.*?)```", page, re.DOTALL)[1]
    printed = []
    for line in commands.splitlines():
        command = shlex.split(line)
        assert command.pop(0) == "nclens"
        done = CliRunner().invoke(cli.app, command, catch_exceptions=False)
        assert done.exit_code == 0, done.output
        printed.append(done.output)
    digest = sha256(Path("smoke.zip").read_bytes())
    assert all(digest in output for output in printed[:2])
    assert "review/results/smoke" in printed[1]
    assert "review/results/smoke/report.html" in printed[2].replace("\n", "")
    found = {}
    exec(re.search(r"```python\n(.*?)```", page, re.DOTALL)[1], found)
    assert found["metrics"].to_dict("list") == {"loss": ["ce"], "value": [0.5]}
    assert {"claims.csv", "metrics.parquet", "theory/ufm.csv"} <= set(found["archive"].files)


def test_a_mistake_ends_with_one_message(plan, monkeypatch, capsys):
    for arguments, words in (
        (["pack", "results/none"], "nclens pack: there is no folder or file results/none"),
        (["pack", "results/smoke", "--author", "<>"], "nclens pack: --author '<>': allowed: a name"),
        (["unpack", "none.zip"], "nclens unpack: none.zip is missing"),
        (["check", "none.yaml"], "nclens check: none.yaml: No such file or directory"),
    ):
        monkeypatch.setattr("sys.argv", ["nclens", *arguments])
        with pytest.raises(SystemExit) as stopped:
            cli.main()
        assert stopped.value.code == 1
        said = capsys.readouterr().err
        assert said.startswith(words)
        assert said.count("\n") == 1


# --- authors and licences --------------------------------------------------------------------------------------------


def test_authors_and_licences_are_checked():
    about = About(authors=(" Ada  Lovelace ", "B <https://orcid.org/0000-0002-9079-593X>"), licence="https://a.org/b")
    assert about.people == [("Ada  Lovelace", "#Ada%20%20Lovelace"), ("B", "https://orcid.org/0000-0002-9079-593X")]
    assert about.terms == ("https://a.org/b", "https://a.org/b")
    assert About(licence="mit").terms == ("https://spdx.org/licenses/MIT", "MIT")
    for author in ("", "  ", "<0000-0002-1825-0097>", "A <0000-0002-1825-0098>", "A <a@b.org>", "A <1> B"):
        with pytest.raises(ValueError, match=r"--author .*: allowed: a name"):
            About(authors=(author,))
    for licence in ("", "CC-BY", "MIT OR Apache-2.0", "my own"):
        with pytest.raises(ValueError, match=r"--license .*: allowed: one SPDX identifier"):
            About(licence=licence)
