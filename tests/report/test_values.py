"""The table of one network's metrics in its four forms."""

import csv
import io
import json
from xml.etree import ElementTree

import pytest

from nclens.report.values import FORMS, values_table

BOTH = {
    "nc1": {"train": 0.1234567890123, "test": 2.0},
    "nc1_incorrect": {"train": float("nan"), "test": 3.0},
    "x<&": {"test": 1},
}
ALONE = {"nc1": {"value": 0.25}, "ece": {"value": float("inf")}}


def test_text_has_a_column_a_split_and_a_file_has_one():
    lines = values_table(BOTH).splitlines()
    assert [line.split() for line in lines[:3]] == [
        ["metric", "train", "test"],
        ["nc1", "0.123457", "2"],
        ["nc1_incorrect", "nan", "3"],
    ]
    assert lines[3].index("1") == lines[1].rindex("2")
    assert values_table(ALONE) == f"{'nc1':24} 0.25\n{'ece':24} inf"


def test_json_has_all_digits_and_null_for_what_is_not_finite():
    found = json.loads(values_table(BOTH, "json"), parse_constant=pytest.fail)
    assert found["train"] == {"nc1": 0.1234567890123, "nc1_incorrect": None}
    assert json.loads(values_table(ALONE, "json")) == {"nc1": 0.25, "ece": None}


def test_csv_has_all_digits():
    rows = list(csv.DictReader(io.StringIO(values_table(BOTH, "csv"))))
    assert float(rows[0]["train"]) == 0.1234567890123
    assert rows[2] == {"metric": "x<&", "train": "", "test": "1"}


def test_html_is_a_table_with_labels():
    rows = ElementTree.fromstring(values_table(BOTH, "html"))
    cells = [[cell.text or "" for cell in row] for row in rows]
    assert cells[:2] == [["metric", "", "train", "test"], ["nc1", "NC1", "0.123457", "2"]]
    assert cells[3][0] == "x<&"


def test_another_form_is_refused():
    with pytest.raises(ValueError, match=f"form = xml; allowed: {', '.join(FORMS)}"):
        values_table(ALONE, "xml")
