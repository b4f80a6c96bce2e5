"""Every table of the results: read as it was written, and what the library needs of it is there."""

import dataclasses
import math

import pandas as pd
import pytest

from nclens.claims import rows, verdict
from nclens.figures import inputs as figures
from nclens.report import summary
from nclens.training.history import HISTORY, STATISTICS
from nclens.workflow import tables
from nclens.workflow.files import FileError

ALL = {name: table for name, table in vars(tables).items() if isinstance(table, tables.Table)}
VALUES = {str: "null", int: 3, float: 0.1 + 0.2, bool: True}


def sample(table, **changes):
    row = {name: VALUES[kind] for name, kind in table.columns.items()}
    return pd.DataFrame([row, row | changes])


@pytest.mark.parametrize("name", ALL)
def test_a_table_written_is_the_table_read(name, tmp_path):
    table = ALL[name]
    for name in ("null", "nan", "", "NA"):
        names = {key: name for key, kind in table.columns.items() if kind is str}
        written = sample(table, **names)
        tables.write(table, tmp_path / "table.csv", written)
        pd.testing.assert_frame_equal(tables.read(table, tmp_path / "table.csv"), written, check_dtype=False)


@pytest.mark.parametrize("name", ALL)
def test_an_empty_table_has_its_columns_with_their_types(name, tmp_path):
    table = ALL[name]
    tables.write(table, tmp_path / "table.csv", sample(table).iloc[:0])
    found = tables.read(table, tmp_path / "table.csv")
    assert (list(found.columns), len(found)) == (list(table.columns), 0)
    kinds = {"i": int, "f": float, "b": bool, "O": str}
    assert {key: kinds.get(kind.kind) for key, kind in found.dtypes.items()} == dict(table.columns)


@pytest.mark.parametrize("value", [0.1 + 0.2, 1e-300, 123456789.123456789, math.inf, math.nan, -0.0])
def test_numbers_keep_their_bits(tmp_path, value):
    for table in (tables.METRICS, tables.PREDICTIONS):
        column = "value" if table is tables.METRICS else "measured"
        tables.write(table, tmp_path / "table.csv", sample(table, **{column: value}))
        found = tables.read(table, tmp_path / "table.csv")[column].iloc[1]
        assert repr(float(found)) == repr(value)


def test_measured_values_have_seventeen_digits(tmp_path):
    tables.write(tables.METRICS, tmp_path / "metrics.csv", sample(tables.METRICS))
    assert (tmp_path / "metrics.csv").read_text().splitlines() == [
        "epoch,split,metric,value",
        *["3,null,null,0.30000000000000004"] * 2,
    ]


def test_rows_are_written_as_they_are_and_what_they_lack_stays_empty(tmp_path):
    rows = [{"experiment": "e", "lambda_w": 1, "numeric": 0.5, "closed_form": None}]
    tables.write_rows(tables.REGRESSION, tmp_path / "regression.csv", rows)
    assert (tmp_path / "regression.csv").read_text().splitlines()[1] == "e,,,,1,,,,0.5,"
    with pytest.raises(ValueError, match="loss_of"):
        tables.write_rows(tables.REGRESSION, tmp_path / "other.csv", [{"loss_of": 1}])
    assert not (tmp_path / "other.csv").exists()


def test_text_is_read_without_pandas(tmp_path):
    tables.write(tables.CLAIMS, tmp_path / "claims.csv", sample(tables.CLAIMS))
    assert tables.read_rows(tables.CLAIMS, tmp_path / "claims.csv")[0]["effect"] == "0.30000000000000004"
    with pytest.raises(FileError, match="is missing: the rule `judge` makes it"):
        tables.read_rows(tables.CLAIMS, tmp_path / "none.csv")


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("ending", ["csv", "parquet"])
def test_a_missing_damaged_or_foreign_file_is_named_with_its_rule(name, ending, tmp_path):
    path, table = tmp_path / f"table.{ending}", ALL[name]
    with pytest.raises(FileError, match=rf"table.{ending} is missing: the rule `{table.made_by}` makes it"):
        tables.read(table, path)
    for content in (b"", b"\x00", b"PAR1 no more", b"a,b\n1,2\n"):
        path.write_bytes(content)
        with pytest.raises(FileError, match=rf"table.{ending} is damaged .*`{table.made_by}`"):
            tables.read(table, path)


def test_some_columns_and_some_rows(tmp_path):
    path = tmp_path / "metrics.parquet"
    tables.write(tables.COLLECTED, path, sample(tables.COLLECTED, metric="nc1"))
    found = tables.read(tables.COLLECTED, path, ["value", "loss"], [("metric", "==", "nc1")])
    assert (list(found.columns), len(found)) == (["value", "loss"], 1)


#: What a function of the library needs of its argument -> the table that is handed to it.
NEEDED = {
    "claims: metrics": (verdict.METRICS, tables.COLLECTED),
    "claims: theory": ((*verdict.THEORY, *verdict.MODEL), tables.THEORY),
    "claims: dynamics": (verdict.DYNAMICS, tables.DYNAMICS),
    "claims: predictions": (verdict.PREDICTIONS, tables.PREDICTIONS),
    "figures: metrics": (figures.METRIC_COLUMNS, tables.COLLECTED),
    "figures: theory": (figures.THEORY_COLUMNS, tables.THEORY),
    "figures: dynamics": (figures.DYNAMICS_COLUMNS, tables.DYNAMICS),
    "figures: predictions": (figures.PREDICTION_COLUMNS, tables.PREDICTIONS),
    "figures: regression": (figures.REGRESSION_COLUMNS, tables.REGRESSION),
}


@pytest.mark.parametrize("what", NEEDED)
def test_what_the_library_needs_of_a_table_is_in_it(what):
    columns, table = NEEDED[what]
    assert set(columns) <= set(table.columns)


def test_what_the_page_needs_of_a_table_is_in_it():
    from nclens import report

    for name, table in {
        "CLAIM_COLUMNS": tables.CLAIMS,
        "METRIC_COLUMNS": tables.COLLECTED,
        "THEORY_COLUMNS": tables.THEORY,
        "DYNAMICS_COLUMNS": tables.DYNAMICS,
        "PREDICTION_COLUMNS": tables.PREDICTIONS,
        "EFFECTIVE_COLUMNS": tables.EFFECTIVE,
        "REGRESSION_COLUMNS": tables.REGRESSION,
    }.items():
        assert set(getattr(report, name)) <= set(table.columns)


def test_what_the_library_makes_is_a_table_of_ours():
    assert [field.name for field in dataclasses.fields(rows.ClaimRow)] == list(tables.CLAIMS.columns)
    assert ["experiment", *summary.COLUMNS] == list(tables.LOSSES.columns)
    for task, table in tables.HISTORY.items():
        assert list(table.columns) == ["epoch", "split", "loss", *STATISTICS[task], "learning_rate", "seconds"]
        assert set(table.columns) - {"epoch", "split"} <= set(HISTORY)
