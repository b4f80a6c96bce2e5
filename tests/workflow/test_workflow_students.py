"""Teachers and students in the real Snakefile: what waits for what, and what a change trains again."""

import pytest
import yaml

from tests.project import ROOT, Place, planned_runs

pytestmark = [pytest.mark.workflow, pytest.mark.slow]

TEACHERS = {"resnet8/ce/seed0", "resnet8/ls/seed0"}
STUDENTS = {"small/of_ce_2/seed0", "small/of_ce_4/seed0", "small/of_ls/seed0"}
ALONE = {"small/ce/seed0"}
RUNS = [f"results/own/mnist5k/{run}/run.json" for run in sorted(TEACHERS | STUDENTS | ALONE)]


def own_study():
    study = yaml.safe_load((ROOT / "studies" / "smoke.yaml").read_text(encoding="utf-8"))
    study["study"] = "own"
    study["models"]["small"] = {"name": "resnet8", "width": 2}
    for name, loss, temperature in (("of_ce_2", "ce", 2), ("of_ce_4", "ce", 4), ("of_ls", "ls", 1)):
        teacher = {"experiment": "smoke", "loss": loss}
        study["losses"][name] = {"name": "distillation", "teacher": teacher, "temperature": temperature}
    study["experiments"]["smoke"] |= {"training": {"epochs": 2, "batch_size": 50}, "snapshots": [1, 2]}
    students = {"model": "small", "losses": ["ce", "of_ce_2", "of_ce_4", "of_ls"], "seeds": [0]}
    study["experiments"]["students"] = study["experiments"]["smoke"] | students
    return study


def trained_by(done):
    """The runs that a dry run would train, in its order."""
    return [run.removeprefix("mnist5k/") for run in planned_runs(done.stdout).get("train", [])]


def planned(place, *targets):
    found = trained_by(place.snakemake("--dry-run", *(targets or RUNS)))
    assert len(found) == len(set(found))
    return set(found)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """The project with the study's networks trained, and what a student alone would have needed."""
    place = Place.copy_to(tmp_path_factory.mktemp("students") / "nclens")
    place.configure(own_study())
    place.quick_jobs = True
    place.fresh = {run: planned(place, f"results/own/mnist5k/{run}/run.json") for run in STUDENTS | ALONE}
    place.snakemake("--cores", "1", *RUNS)
    return place


@pytest.fixture
def place(finished, tmp_path):
    """A copy that a test may change."""
    return Place.of(finished, tmp_path / "nclens")


def test_a_student_waits_for_its_teacher_of_its_seed_and_for_no_other(finished):
    assert finished.fresh == {
        "small/of_ce_2/seed0": {"small/of_ce_2/seed0", "resnet8/ce/seed0"},
        "small/of_ce_4/seed0": {"small/of_ce_4/seed0", "resnet8/ce/seed0"},
        "small/of_ls/seed0": {"small/of_ls/seed0", "resnet8/ls/seed0"},
        "small/ce/seed0": {"small/ce/seed0"},
    }

    def made(run):
        return finished.path("results/own/mnist5k", run, "run.json").stat().st_mtime

    assert made("resnet8/ls/seed0") < made("small/of_ls/seed0")
    assert made("resnet8/ce/seed0") < min(made("small/of_ce_2/seed0"), made("small/of_ce_4/seed0"))
    assert planned(finished) == set()


def test_a_teacher_changed_trains_its_students_again_and_no_other(place):
    study = own_study()
    study["losses"]["ls"]["smoothing"] = 0.1
    place.configure(study)
    assert planned(place) == {"resnet8/ls/seed0", "small/of_ls/seed0"}


def test_a_teachers_network_changed_trains_teachers_and_students(place):
    study = own_study()
    study["models"]["resnet8"]["width"] = 5
    place.configure(study)
    assert planned(place) == TEACHERS | STUDENTS


def test_a_teacher_that_is_lost_is_trained_again_and_its_students_learn_anew(place):
    place.path("results/own/mnist5k/resnet8/ce/seed0/snapshots.safetensors").unlink()
    assert planned(place) == {"resnet8/ce/seed0", "small/of_ce_2/seed0", "small/of_ce_4/seed0"}


def test_a_temperature_changed_trains_its_student_only(place):
    study = own_study()
    study["losses"]["of_ce_4"]["temperature"] = 8
    place.configure(study)
    assert planned(place) == {"small/of_ce_4/seed0"}


def test_the_loss_edited_trains_the_students_only(place):
    place.edit("src/nclens/losses.py", "q = F.softmax(", "q = 1.0 * F.softmax(")
    assert planned(place) == STUDENTS


def test_a_teacher_that_the_study_lacks_starts_no_job(place):
    study = own_study()
    study["losses"]["of_ls"]["teacher"]["loss"] = "lss"
    place.configure(study)
    failed = place.snakemake("--cores", "1", check=False)
    output = failed.stdout + failed.stderr
    assert failed.returncode != 0
    assert "losses.of_ls.teacher.loss = lss: experiments.smoke does not train it; it trains: ce, ls" in output
    assert "Traceback" not in output
