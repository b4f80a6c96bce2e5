"""The study of streamed images in the real Snakefile, on photographs where they are at hand."""

import json

import pandas as pd
import pytest
import yaml

from tests.project import ROOT, Place, shortened

SHARED = ROOT.parent / "shared" / "data" / "tinyimagenet20"
CLASSES, TRAIN, TEST = 20, 15, 5

pytestmark = [pytest.mark.workflow, pytest.mark.slow]


def study_of_photographs():
    """`studies/streamed_smoke.yaml` on some images of each class of Tiny ImageNet, read in place.

    As ImageNet is trained: a run on two devices, measured by statistics in place of features.
    """
    study = yaml.safe_load((ROOT / "studies" / "streamed_smoke.yaml").read_text(encoding="utf-8"))
    study["datasets"]["streamed"] |= {"path": str(SHARED), "train_per_class": TRAIN, "test_per_class": TEST}
    del study["datasets"]["sharded"], study["experiments"]["shards"]
    study["experiments"]["folder"] |= {
        "training": {"epochs": 2, "batch_size": 50, "devices": 2},
        "keep_features": "none",
    }
    return shortened(study, "norms")


@pytest.mark.skipif(not SHARED.is_dir(), reason="no images of Tiny ImageNet here")
def test_the_whole_study_runs_on_tiny_imagenet_in_place_and_other_workers_run_nothing_again(tmp_path):
    place = Place.copy_to(tmp_path / "nclens")
    place.quick_jobs = True
    study = study_of_photographs()
    place.configure(study)
    place.snakemake("--cores", "2")
    root = place.path("results", "streamed_smoke")
    manifest = json.loads((root / "data" / "streamed.json").read_text(encoding="utf-8"))
    assert (len(manifest["classes"]), manifest["train"], manifest["test"]) == (CLASSES, CLASSES * TRAIN, CLASSES * TEST)
    assert manifest["root"] == str(SHARED)
    records = [json.loads(file.read_text(encoding="utf-8")) for file in sorted(root.rglob("run.json"))]
    assert [record["devices"] for record in records] == [[[0, 2]]] * 2
    # One thread a device, whatever the cores that the job got.
    assert [record["threads"] for record in records] == [1, 1]
    table = pd.read_parquet(root / "metrics.parquet")
    assert table.loc[table["metric"] == "nc1", "value"].notna().all()
    assert (root / "report.html").is_file()
    study["datasets"]["streamed"]["workers"] = 5
    place.configure(study)
    runs = [str(file.relative_to(place.folder).with_name("metrics.csv")) for file in root.rglob("run.json")]
    assert "Nothing to be done" in place.snakemake("--dry-run", "--cores", "7", *runs).stdout
