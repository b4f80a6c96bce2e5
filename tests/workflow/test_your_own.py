"""The study of docs/your_own.md, as it is printed there: checked, run, and run again after an edit."""

import html
import re
import zipfile

import pandas as pd
import pytest

from nclens.study import ConfigError, load_study
from nclens.workflow.check import check_file
from nclens.workflow.paths import ENDINGS
from nclens.workflow.trials import described_data, read_data, tried_networks
from tests.project import ROOT, Place, planned_runs

PAGE = (ROOT / "docs" / "your_own.md").read_text(encoding="utf-8")
OWN_CLAIMS = {"calibrated", "sharper", "early", "sooner", "steadier", "higher_rank", "compact"}


def snippets(language):
    return re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)


def write(folder):
    """The page's study and module, each snippet once, in the page's order."""
    folder.mkdir(parents=True)
    (folder / "study.yaml").write_text("\n".join(snippets("yaml")))
    (folder / "my_parts.py").write_text("\n\n".join(snippets("python")))
    return folder / "study.yaml"


def test_the_check_says_what_the_page_shows(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    fine, mistaken = (text.splitlines() for text in snippets("text"))
    study = check_file(write(tmp_path / "mine").relative_to(tmp_path))
    found = read_data(study, tmp_path)
    assert [*described_data(found), *tried_networks(study, found)] == fine[:-1]
    assert fine[-1] == f"mine/study.yaml: fine; runs: {sum(1 for _ in study.runs())}, experiments: 1"
    text = (tmp_path / "mine" / "study.yaml").read_text()
    (tmp_path / "mine" / "study.yaml").write_text(text.replace("strength: 0.01", "strenght: 0.01"))
    with pytest.raises(ConfigError) as refusal:
        check_file((tmp_path / "mine" / "study.yaml").relative_to(tmp_path))
    assert mistaken[0] in str(refusal.value)


@pytest.mark.slow
@pytest.mark.workflow
@pytest.mark.timeout(1200)
def test_the_study_of_the_page_runs_and_an_edited_part_trains_nothing(tmp_path):
    place = Place.copy_to(tmp_path / "nclens")
    place.quick_jobs = True
    place.study = write(place.path("mine"))
    assert "noise" in load_study(place.shorten("norms", "noise"), [place.study.parent]).figures(
        "main"
    )  # by default too
    place.snakemake("--cores", "2")
    root = place.path("results", "mine")
    page = html.unescape((root / "report.html").read_text(encoding="utf-8"))

    claims = pd.read_csv(root / "claims.csv")
    of_soft = set(claims.loc[claims["loss"] == "soft", "claim"])
    assert {"G1", "G2", "G3", "G4", "G5"} | OWN_CLAIMS <= of_soft
    assert not {"C1", "C2", "C3", "C4"} & of_soft
    assert all(f"{claim}" in page for claim in of_soft)
    assert "Soft" in page
    assert "Soft starts ahead." in page

    metrics = pd.read_parquet(root / "metrics.parquet")
    own = metrics[metrics["metric"].astype(str).str.startswith("rankme")]
    assert set(own["metric"]) == {"rankme_all", "rankme_class0"}
    assert set(own["split"]) == {"test"}
    assert len(own) == 2 * 6 * 4  # metrics, runs, snapshots
    losses = pd.read_csv(root / "tables" / "losses.csv")
    shown = losses[losses["metric"] == "rankme_all"].set_index("loss")
    assert set(shown["quantity"]) == {"RankMe, all"}
    last = own[(own["epoch"] == 8) & (own["metric"] == "rankme_all") & (own["loss"] == "soft")]["value"]
    assert shown["mean"]["soft"] == pytest.approx(last.mean())
    assert "RankMe, all" in page
    assert recorded(place, "test/rankme_all") == 6 + 2  # runs, and the aggregate of each loss

    robust = metrics[metrics["metric"].astype(str).str.startswith("robust")]
    assert set(robust["metric"]) == {"robust_noise", "robust_rise"}
    assert set(robust["split"]) == {"test"}
    assert len(robust) == 2 * 6 * 4  # metrics, runs, snapshots
    assert losses.set_index(["metric", "loss"])["quantity"]["robust_noise", "soft"] == "Error under noise, noise"
    assert recorded(place, "test/robust_noise") == 6 + 2

    drawn = [f"main_noise.{ending}" for ending in ENDINGS]
    assert all((root / "figures" / name).stat().st_size > 1000 for name in drawn)
    assert "Test error of inputs with Gaussian noise" in page
    assert "missing" not in page.split('<section id="figures"')[1].split("</section>")[0]
    artifacts = {path.name for path in place.path("mlartifacts").rglob("*") if path.is_file()}
    assert set(drawn) <= artifacts
    place.snakemake("--report", "page.zip")
    with zipfile.ZipFile(place.path("page.zip")) as report:
        reported = "".join(report.read(name).decode(errors="ignore") for name in report.namelist())
    assert "main_noise.png" in reported
    assert "Gaussian noise against epoch" in reported

    assert place.planned() == set()
    place.edit("mine/my_parts.py", 'marker="o"', 'marker="s"')
    assert place.planned() == {"draw_main_noise", "report", "track_study"}
    place.edit("mine/my_parts.py", 'marker="s"', 'marker="o"')
    place.edit("mine/my_parts.py", "size * torch.randn", "2 * size * torch.randn")
    runs = planned_runs(place.snakemake("--dry-run").stdout)
    assert len(runs["probe"]) == 6
    assert not {"train", "extract", "measure"} & runs.keys()
    place.edit("mine/my_parts.py", "2 * size * torch.randn", "size * torch.randn")
    place.edit("mine/my_parts.py", "torch.exp(-(share", "2 * torch.exp(-(share")
    runs = planned_runs(place.snakemake("--dry-run").stdout)
    assert len(runs["measure"]) == 6
    assert not {"train", "extract", "probe"} & runs.keys()
    place.snakemake("--cores", "2", "results/mine/report.html")  # without recording it again
    again = pd.read_csv(root / "tables" / "losses.csv").set_index(["metric", "loss"])["mean"]
    assert again["rankme_all", "soft"] == pytest.approx(2 * shown["mean"]["soft"])


def recorded(place, metric):
    """How many runs of MLflow have a metric."""
    from mlflow import MlflowClient

    client = MlflowClient(f"sqlite:///{place.path('mlflow.db')}")
    ids = [experiment.experiment_id for experiment in client.search_experiments()]
    return sum(metric in run.data.metrics for run in client.search_runs(ids))
