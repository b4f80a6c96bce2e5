import pandas as pd

from nclens.claims.measurements import Measurements
from tests.claims.runs import NO_METRICS, decay, runs


def test_rows_are_found_by_loss_split_and_metric_in_the_table_s_order():
    tables = [runs(decay(0.1), "ls"), runs(decay(0.2), "ce"), runs(decay(0.3), "ls", metric="error", split="test")]
    table = pd.concat(tables, ignore_index=True)
    for shown in (table, table.astype({"loss": "category", "split": "category", "metric": "category"})):
        measured = Measurements(shown)
        pd.testing.assert_frame_equal(measured.of("ls", "train", "nc1"), shown[: len(tables[0])])
        assert measured.of("ls", "test", "nc1").empty
        assert list(measured.of("ls", "test", "nc1")) == list(table)
        assert measured.probed("nc1") == ["nc1"]
        assert measured.metrics_of("ce") == {"nc1"}
        assert measured.metrics_of("maxsup") == set()
        assert measured.last_epoch == 100


def test_an_empty_table_has_nothing():
    measured = Measurements(NO_METRICS)
    assert measured.probed("nc1") == []
    assert measured.of("ls", "train", "nc1").empty
    assert not measured.last_epoch > 0


def test_probes_of_a_kind_stand_under_its_name_or_after_a_slash():
    names = ("probe_accuracy/b", "probe_accuracy_train", "probe_accuracy/a", "probe_accuracy")
    measured = Measurements(pd.concat([runs(decay(0.1), "ls", metric=name) for name in names], ignore_index=True))
    assert measured.probed("probe_accuracy") == ["probe_accuracy", "probe_accuracy/a", "probe_accuracy/b"]
