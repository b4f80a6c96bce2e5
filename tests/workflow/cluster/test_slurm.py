"""The profile for Slurm, on a real one-node cluster: the same study, the same bits, whatever happens to its jobs."""

import json
import os
import re
import shutil
import time

import pytest
import yaml

from nclens.workflow.epochs import read_epoch
from tests.process import Process, quick_jobs
from tests.project import ROOT, Place, shortened
from tests.workflow.cluster.slurm import Cluster, why_not

REASON = why_not()
pytestmark = [pytest.mark.workflow, pytest.mark.slow, pytest.mark.timeout(1200)]

# It sleeps while a file is there, so that a run outlasts its time limit without keeping a core busy; the values are
# plain cross entropy.
SLOW_LOSS = """
import os
import time

from torch.nn import functional


def slow(logits, targets):
    if os.path.exists(os.environ.get("SLOW_WHILE", "")):
        time.sleep(4)
    return functional.cross_entropy(logits, targets, reduction="none")
"""
RUNS = ("mnist5k/resnet8/ce/seed0", "mnist5k/resnet8/slow/seed0")


def study_with_a_slow_run():
    """A run of the smoke study and one more experiment, whose run takes four minutes on request."""
    study = yaml.safe_load((ROOT / "studies" / "smoke.yaml").read_text(encoding="utf-8"))
    study["study"] = "cluster"
    study["losses"]["slow"] = {"function": "slow_loss:slow"}
    study["experiments"]["smoke"] |= {"losses": ["ce"], "seeds": [0]}
    training = study["experiments"]["smoke"]["training"] | {"epochs": 12}
    patience = {"losses": ["slow"], "training": training, "snapshots": [0, 12]}
    study["experiments"]["patience"] = study["experiments"]["smoke"] | patience
    return shortened(study, "norms")


def prepare(folder):
    place = Place.copy_to(folder)
    place.configure(study_with_a_slow_run())
    (place.folder / "mine" / "slow_loss.py").write_text(SLOW_LOSS, encoding="utf-8")
    return place


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    """A running cluster; its daemons are stopped at the end whatever happened."""
    if REASON:
        pytest.skip(f"no Slurm here: {REASON}")
    # Sockets have short paths, and the node's daemons keep theirs below this folder.
    cluster = Cluster(tmp_path_factory.mktemp("slurm"))
    try:
        try:
            cluster.start()
        except RuntimeError as error:
            pytest.skip(f"no Slurm here: {error}")
        yield cluster
    finally:
        cluster.stop()


@pytest.fixture(scope="module")
def local(tmp_path_factory):
    """The study's measurements as this machine makes them without Slurm."""
    place = prepare(tmp_path_factory.mktemp("local") / "nclens")
    place.quick_jobs = True
    place.snakemake("--cores", "2", *(f"results/cluster/{run}/metrics.csv" for run in RUNS))
    return place


@pytest.fixture(scope="module")
def ended(cluster, tmp_path_factory):
    """The study run through Slurm while jobs are cancelled, reach their limit, and the node's daemon is restarted."""
    place = prepare(tmp_path_factory.mktemp("through") / "nclens")
    sleeping = place.path("sleeping")
    sleeping.touch()
    command = place.command(
        "--workflow-profile",
        "profiles/slurm",
        *("--set-resources", "train:runtime=10", "train:slurm_extra='--signal=TERM@20'"),
        *("--slurm-init-seconds-before-status-checks", "2"),
    )
    process = Process(command, place.folder, through(cluster, place) | {"SLOW_WHILE": str(sleeping)})
    try:
        place.cancelled = cancel_one(cluster, process, spared="_slow_")
        number = cut_off_the_slow_one(cluster, process, place)
        cluster.stop_node()
        cluster.start_node()
        wait_for_the_end_of(cluster, process, number)
        sleeping.unlink()
        code = process.wait(timeout=1000)
    finally:
        process.kill()
    place.output = "".join(process.communicate())
    assert code == 0, place.output
    return place


def through(cluster, place):
    """The environment of a Snakemake that submits; its own small steps are quick, what the cluster runs is not."""
    place.quick_jobs = True
    own = place.environment()
    return own | cluster.environment | {"PATH": os.pathsep.join([str(quick_jobs()), cluster.environment["PATH"]])}


def cancel_one(cluster, process, spared):
    """Cancel the first training that runs and is not of the spared loss; return its number."""
    deadline = time.monotonic() + 300
    while time.monotonic() < deadline and process.poll() is None:
        for line in cluster.ask("squeue", "--noheader", "--states=R", "--format=%i %k").splitlines():
            number, comment = line.split(maxsplit=1)
            if "train" in comment and spared not in comment:
                cluster.ask("scancel", number)
                return number
        time.sleep(0.3)
    raise AssertionError("no training ran but the spared one")


def cut_off_the_slow_one(cluster, process, place):
    """Give the slow training, once it has an epoch behind it, a limit of at most a minute more; return its number."""
    progress = place.path("results/cluster/mnist5k/resnet8/slow/seed0/.work/progress.json")
    deadline = time.monotonic() + 300
    while not (progress.exists() and json.loads(progress.read_text(encoding="utf-8"))["position"] >= 1):
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.2)
    for line in cluster.ask("squeue", "--noheader", "--states=R", "--format=%i %M %k").splitlines():
        number, elapsed, comment = line.split(maxsplit=2)
        if "_slow_" in comment:
            minutes = int(elapsed.split(":")[-2])
            cluster.ask("scontrol", "update", f"JobId={number}", f"TimeLimit={minutes + 1}")
            return number
    raise AssertionError("the slow training does not run")


def wait_for_the_end_of(cluster, process, number):
    """Wait until a job has left the node."""
    deadline = time.monotonic() + 300
    while {"RUNNING", "COMPLETING"} & set(
        cluster.ask("squeue", "--noheader", f"--jobs={number}", "--format=%T").split()
    ):
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.3)


def test_the_study_ends_although_jobs_were_cancelled_and_cut_off(ended):
    assert f"SLURM-job '{ended.cancelled}' failed" in ended.output
    log = ended.path("results/cluster/logs/train/mnist5k/resnet8/slow/seed0.log").read_text()
    assert "goes on after epoch" in log, ended.output
    assert ended.path("results/cluster/report.html").is_file()
    assert ended.path("results/cluster/mlflow.json").is_file()


def test_bits_are_those_of_a_local_run(ended, local):
    runs = sorted(path.parent.relative_to(ended.folder) for path in ended.folder.glob("results/**/run.json"))
    assert list(map(str, runs)) == [f"results/cluster/{run}" for run in RUNS]
    for run in runs:
        for epoch in json.loads(ended.path(run, "run.json").read_text())["spec"]["snapshots"]:
            tensors, expected = (
                read_epoch(place.path(run, "snapshots.safetensors"), epoch, "train")[0] for place in (ended, local)
            )
            assert tensors.keys() == expected.keys()
            assert all(tensors[name].equal(expected[name]) for name in expected), f"{run}: epoch {epoch}"
        assert ended.path(run, "metrics.csv").read_bytes() == local.path(run, "metrics.csv").read_bytes()
    # Where they ran is no part of what they are.
    records = [json.loads(place.path(runs[0], "run.json").read_text()) for place in (ended, local)]
    assert records[0]["identity"] == records[1]["identity"]


def test_only_training_and_measuring_enter_the_queue(ended):
    submitted = re.findall(r"log: \S*slurm_logs/(?:rule|group)_([a-z]+)\w*/", ended.output)
    assert set(submitted) == {"train", "measure"}
    # Two runs trained twice, and each measured in one entry with its extraction.
    assert len(submitted) <= 6, submitted


def test_two_tasks_train_one_run_with_the_bits_of_two_processes_of_one_machine(cluster, tmp_path):
    target = f"results/cluster/{RUNS[0]}/run.json"
    found = []
    tasks = ("train:mpi=srun", "train:tasks=2", "train:tasks_per_gpu=0", "train:cpus_per_task=1")
    through_slurm = ("--workflow-profile", "profiles/slurm", "--set-resources", *tasks)
    for name, options in (("local", ("--cores", "2")), ("tasks", through_slurm)):
        place = prepare(tmp_path / name)
        study = study_with_a_slow_run()
        del study["experiments"]["patience"]
        study["experiments"]["smoke"]["training"] |= {"devices": 2}
        place.configure(study)
        environment = through(cluster, place) if name == "tasks" else {}
        place.quick_jobs = False
        done = place.snakemake(*options, "--", target, **environment)
        log = place.path(f"results/cluster/logs/train/{RUNS[0]}.log").read_text()
        assert log.count("trains on 2 devices, each with 20 samples a step") == 1, done.stderr + log
        snapshots = place.path("results/cluster", RUNS[0], "snapshots.safetensors")
        history = [line.rsplit(",", 1)[0] for line in snapshots.with_name("history.csv").read_text().splitlines()]
        found.append((snapshots.read_bytes(), history))
    assert found[0] == found[1]


def test_an_unknown_partition_is_one_message(cluster, tmp_path):
    place = prepare(tmp_path / "nclens")
    done = place.snakemake(
        "--workflow-profile",
        "profiles/slurm",
        "--default-resources",
        "slurm_partition=nowhere",
        "--",
        f"results/cluster/{RUNS[0]}/run.json",
        check=False,
        **through(cluster, place),
    )
    assert done.returncode != 0
    assert "nowhere" in done.stderr or "invalid partition" in done.stderr
    assert "Traceback" not in done.stderr
    # What ran on this machine before is kept.
    assert place.path("results/cluster/data/mnist5k.json").is_file()


def test_without_slurm_the_profile_says_so(tmp_path):
    place = prepare(tmp_path / "nclens")
    bare = tmp_path / "bin"
    bare.mkdir()
    for name in ("bash", "sh", "tee", "env", "which", "git", "uname"):
        (bare / name).symlink_to(shutil.which(name))
    done = place.snakemake("--workflow-profile", "profiles/slurm", check=False, PATH=str(bare))
    assert done.returncode != 0
    assert "there is no `sbatch` here" in done.stderr
    assert not place.path("results").exists()
    assert "Traceback" not in done.stderr
