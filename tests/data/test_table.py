"""CSV and Parquet files, as people have them."""

import gzip

import numpy as np
import pandas as pd
import pytest
import torch

from nclens.data import table
from nclens.data.raw import RawData

ROWS = [f"{i / 7},{i % 5},{'owl' if i % 3 else 'Cat'}" for i in range(12)]
CSV = "\n".join(["a,b,y", *ROWS, ""])
LABELS = [1 if i % 3 else 0 for i in range(12)]
FRAME = pd.DataFrame(
    {"a": np.arange(12) / 7, "b": np.arange(12) % 5, "y": ["owl" if i % 3 else "Cat" for i in range(12)]}
)


def load(folder, path="a.csv", **keys):
    defaults = {
        "target": "y",
        "task": "classification",
        "features": None,
        "leave_out": (),
        "scale_targets": None,
        "train_per_class": None,
        "test_per_class": None,
        "split_seed": 0,
    }
    if "test_path" not in keys and "test_per_class" not in keys:
        defaults["test"] = 0.25
    return table.load(RawData(folder), path, **{**defaults, **keys})


@pytest.fixture
def write(tmp_path):
    def made(content, path="a.csv", **keys):
        (tmp_path / path).write_bytes(content if isinstance(content, bytes) else content.encode())
        return load(tmp_path, path, **keys)

    return made


def whole(data):
    """The samples of both splits in the order of the first column."""
    inputs, targets = (
        torch.cat([data.train_inputs, data.test_inputs]),
        torch.cat([data.train_targets, data.test_targets]),
    )
    order = inputs[:, 0].argsort()
    return inputs[order], targets[order].tolist()


@pytest.mark.parametrize(
    ("content", "path"),
    [
        (CSV, "a.csv"),
        (b"\xef\xbb\xbf" + CSV.replace(",", ";").encode(), "a.csv"),
        (CSV.replace(",", "\t").replace("\n", "\r\n"), "a.tsv"),
        (CSV.replace(",", ", "), "a.csv"),
        (CSV.replace("\n", "\r"), "a.csv"),
        (CSV.replace("\n", " \n").replace("a,b", "a , b "), "a.csv"),
        (CSV, "a.CSV"),
        (gzip.compress(CSV.encode()), "a.csv.gz"),
        (gzip.compress(CSV.replace(",", "\t").encode()), "a.TSV.GZ"),
    ],
)
def test_a_table_becomes_rows_and_sorted_classes(write, content, path):
    data = write(content, path)
    assert data.classes == ["Cat", "owl"]
    assert data.facts == {"columns": ["a", "b"], "target": "y", "shares": {"test": 0.25, "seed": 0}}
    inputs, targets = whole(data)
    assert torch.equal(inputs, torch.tensor([[i / 7, i % 5] for i in range(12)], dtype=torch.float64).float())
    assert (targets, data.test_targets.tolist()) == (LABELS, [0, 1, 1])


def test_parquet_is_the_same_and_an_index_is_no_column(tmp_path, write):
    FRAME.assign(y=FRAME["y"].astype("category")).set_index(pd.Index(range(5, 17), name="id")).to_parquet(
        tmp_path / "a.parquet"
    )
    found, expected = load(tmp_path, "a.parquet"), write(CSV)
    assert torch.equal(found.train_inputs, expected.train_inputs)
    assert (found.classes, found.facts) == (expected.classes, expected.facts)


@pytest.mark.parametrize(
    ("labels", "classes"),
    [
        (["10", "9"], ["9", "10"]),
        (["10.0", "9.0"], ["9", "10"]),
        (["True", "False"], ["False", "True"]),
        (["10", "9.0"], ["9", "10"]),
        (["01", "1"], ["01", "1"]),
        (["1e2", "100"], ["100", "1e2"]),
        (["-1", "+1"], ["+1", "-1"]),
        (["9007199254740993", "9007199254740992"], ["9007199254740992", "9007199254740993"]),
        (['"owl "', '" Cat"'], ["Cat", "owl"]),
        (["None", "1"], ["1", "None"]),
        (['"o,w ""l"', "b"], ["b", 'o,w "l']),
    ],
)
def test_numbers_are_classes_by_value_and_texts_by_code_point(write, labels, classes):
    assert write(CSV.replace("owl", labels[0]).replace("Cat", labels[1])).classes == classes


def test_files_of_each_split_may_have_their_columns_in_another_order(tmp_path, write):
    (tmp_path / "t.csv").write_text("b,y,a\n1,owl,2\n3,owl,4\n")
    (tmp_path / "v.csv").write_text("y,a,b\nowl,2,1\nCat,4,3\n")
    data = write(CSV, test_path="t.csv", val_path="v.csv")
    assert data.test_inputs.tolist() == data.val_inputs.tolist() == [[2, 1], [4, 3]]
    assert (data.test_targets.tolist(), data.val_targets.tolist(), len(data.train_targets)) == ([1, 1], [1, 0], 12)
    assert len(write(CSV, test_path="t.csv", validation=0.25).val_targets) == 3


def test_labels_are_texts_in_all_splits_or_numbers_in_all(tmp_path, write):
    content = CSV.replace("owl", "10.0").replace("Cat", "9")
    (tmp_path / "t.csv").write_text("a,b,y\n1,2,10\n")
    assert write(content, test_path="t.csv").test_targets.tolist() == [1]
    (tmp_path / "t.csv").write_text("a,b,y\n1,2,10.0\n3,4,09\n")
    with pytest.raises(ValueError, match=r"t\.csv: column y, row 2: '09' is none of the classes, which are 10\.0, 9$"):
        write(content, test_path="t.csv")


@pytest.mark.parametrize(
    ("labels", "classes"),
    [
        (pd.array([10, 9] * 6, dtype="Int64"), ["9", "10"]),
        (np.array([10.0, 9.0] * 6), ["9", "10"]),
        (pd.Categorical([10, 9] * 6), ["9", "10"]),
        (["01", "1"] * 6, ["01", "1"]),
        (pd.Categorical(["a ", "b"] * 6), ["a", "b"]),
        ([True, False] * 6, ["False", "True"]),
        ([2**60, 2**60 + 1] * 6, [str(2**60), str(2**60 + 1)]),
    ],
)
def test_labels_of_every_type_of_a_parquet_file(tmp_path, labels, classes):
    FRAME.assign(y=labels).to_parquet(tmp_path / "a.parquet")
    assert load(tmp_path, "a.parquet").classes == classes


@pytest.mark.parametrize(
    ("content", "path", "names"),
    [
        ("a, m;b, m;y\n1;2;u\n3;4;v\n", "a.csv", ["a, m", "b, m"]),
        ('"a, m";b;y\n1;2;u\n3;4;v\n', "a.csv", ["a, m", "b"]),
        ("a;m,b;m,y\n1,2,u\n3,4,v\n", "a.csv", ["a;m", "b;m"]),
        ("a, b, m\tc;d;e\ty\n1\t2\tu\n3\t4\tv\n", "a.tsv", ["a, b, m", "c;d;e"]),
        ("a\tb\ty\n1\t2\tu;w\n3\t4\tv;w\n", "a.csv", ["a", "b"]),
    ],
)
def test_the_separator_is_the_one_that_fits_the_rows(write, content, path, names):
    content += "".join(line + "\n" for line in content.splitlines()[1:]).replace("1", "5").replace("3", "6")
    assert write(content, path).facts["columns"] == names


def test_a_column_that_is_left_out_may_have_long_texts(write):
    first, *rows = CSV.splitlines()
    content = "\n".join([f"t,{first}", *(f"{'o' * 200_000 if row is rows[3] else 'o'},{row}" for row in rows)])
    assert write(content, leave_out=["t"]).classes == ["Cat", "owl"]


def test_a_tsv_file_has_tabs(write):
    with pytest.raises(ValueError, match=r"has no column y \(`target`\); it has, with a tab as separator, 'a,b,y'$"):
        write(CSV, "a.tsv")


@pytest.mark.parametrize("task", ["classification", "regression"])
def test_a_copy_of_a_file_is_no_other_split(tmp_path, write, task):
    content = CSV.replace("owl", "1").replace("Cat", "2")
    first, *rows = content.splitlines()
    (tmp_path / "copy.csv").write_text("\n".join([first, *reversed(rows)]))
    keys = {"task": task, "test_path": "copy.csv"}
    message = (
        r"a\.csv, .*copy\.csv: the splits train and test are the same samples; allowed: other samples in each split"
    )
    with pytest.raises(ValueError, match=message):
        write(content, **keys)
    (tmp_path / "copy.csv").write_text("\n".join([first, *rows[:-1], rows[0]]))
    assert len(write(content, **keys).test_targets) == 12


def test_columns_are_chosen_or_left_out(write):
    content = CSV.replace("\n", "\nx,", 12).replace("a,b", ",a,b", 1)
    assert write(content, leave_out=["unnamed column 1"]).train_inputs.shape[1] == 2
    assert write(content, features=["b"]).facts["columns"] == ["b"]
    with pytest.raises(ValueError, match=r"a column without a name.* put `unnamed column 1` into `leave_out`"):
        write(content)


def test_several_columns_are_regressed(write):
    content = "\n".join(["x,u,v", *(f"{i},{i * i},{i / 3}" for i in range(20))])
    data = write(content, target=["u", "v"], task="regression", scale_targets="each", validation=0.1)
    assert (data.targets, data.facts["columns"]) == (["u", "v"], ["x"])
    assert (len(data.train_targets), len(data.test_targets), len(data.val_targets)) == (13, 5, 2)
    for inputs, targets in data.parts.values():
        original = targets.double() * torch.tensor(data.target_scale) + torch.tensor(data.target_offset)
        assert torch.allclose(original, torch.cat([inputs**2, inputs / 3], dim=1).double(), atol=1e-4)
    assert data.train_targets.std(0, correction=0).tolist() == pytest.approx([1, 1])


MISTAKES = {
    "no such column": (
        CSV,
        {"target": "z"},
        r"a\.csv has no column z \(`target`\); it has, with a comma as separator, a, b, y$",
    ),
    "no such feature": (
        CSV,
        {"features": ["c"]},
        r"has no column c \(`features`\); it has, with a comma as .*, a, b, y$",
    ),
    "no value": (CSV.replace(",1,owl", ",,owl", 1), {}, "column b, row 2: no value; a feature needs a finite number"),
    "NA": (CSV.replace(",1,owl", ",NA,owl", 1), {}, "column b, row 2: no value"),
    "a text": (CSV.replace(",1,owl", ",x,owl", 1), {}, "column b, row 2: 'x' is no finite number; .*`leave_out`"),
    "infinite": (CSV.replace(",1,owl", ",inf,owl", 1), {}, "column b, row 2: 'inf' is no finite number"),
    "beyond 2^53": (
        CSV.replace(",1,owl", ",9007199254740993,owl", 1),
        {},
        r"column b, row 2: 9007199254740993 is beyond 2\^53",
    ),
    "no label": (CSV + "3,3,\n", {}, "column y, row 13: no value; every sample needs a label"),
    "a short row": (CSV + "3,3\n", {}, "column y, row 13: no value"),
    "a long row": (
        CSV + "3,3,owl,4\n",
        {},
        "cannot be read as a table: line 14 has 4 cells, but line 1 names 3 columns$",
    ),
    "long rows": (
        CSV.replace("owl", "owl,").replace("Cat", "Cat,"),
        {},
        "line 2 has 4 cells, but line 1 names 3 columns, separated by a comma",
    ),
    "a column twice": (CSV.replace("a,b", "a,a"), {}, "has the column a twice"),
    "empty": ("", {}, r"a\.csv cannot be read as a table: it is empty$"),
    "an empty first line": ("\n" + CSV, {}, "table: line 1 is empty: it must have the names of the columns$"),
    "a comment first": (
        "# of 2026\n" + CSV,
        {},
        "line 2 has 3 cells, but line 1 names 1 column, .*no other line before",
    ),
    "UTF-16": (CSV.encode("utf-16"), {}, "table: it is UTF-16 or UTF-32: save it as UTF-8$"),
    "UTF-16 without a mark": (CSV.encode("utf-16-be"), {}, "table: it is no UTF-8 text, but perhaps UTF-16: save it"),
    "compressed": (gzip.compress(CSV.encode()), {}, r"it is compressed: a compressed table ends with \.csv\.gz"),
    "a spreadsheet": (b"PK\x03\x04" + CSV.encode(), {}, "it is a ZIP archive, as a spreadsheet"),
    "Parquet": (b"PAR1" + CSV.encode(), {}, r"it is a Parquet file: its name ends with \.parquet"),
    "an open quotation": (CSV.replace("owl", '"owl', 1), {}, "a quotation mark is never closed, the one in row 2$"),
    "a decimal comma": (
        CSV.replace(",", ";").replace(".", ","),
        {},
        r"column a, row 1: '0,0' is no finite number \(with a decimal point, as 0\.5\); a feature",
    ),
    "names with commas": (
        CSV.replace("a,b", '"a, m",b'),
        {"target": "z"},
        "it has, with a comma as separator, 'a, m', b, y$",
    ),
    "UTF-32": (CSV.encode("utf-32"), {}, "table: it is UTF-16 or UTF-32: save it as UTF-8$"),
    "no rows": ("a,b,y\n", {}, "has no rows"),
    "no features": ("y\na\nb\n", {}, "has no column of features; it has y"),
    "another encoding": (
        CSV.replace("owl", "é").encode("latin1"),
        {},
        r"table: it is no UTF-8 text \(byte 0xe9 .*\): save it as UTF-8$",
    ),
    "numbers as labels": (
        CSV.replace("owl", "1.5").replace("Cat", "2"),
        {},
        "row 2: 1.5 is no class; .*`task: regression`",
    ),
    "one class": (CSV.replace("Cat", "owl"), {}, "column y has one class, owl; two or more are needed"),
    "one sample of a class": (CSV + "3,3,fox\n", {}, "class fox has 1 of the 2 samples that `test: 0.25` needs"),
    "texts to regress": (CSV, {"task": "regression"}, "column y, row 1: 'Cat' is no finite number; every sample needs"),
}


@pytest.mark.parametrize(("content", "keys", "words"), MISTAKES.values(), ids=MISTAKES)
def test_a_mistake_is_one_message_with_its_place(write, content, keys, words):
    with pytest.raises(ValueError, match=words):
        write(content, **keys)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("a,b,y\n1,2,fox\n", r"t\.csv: column y, row 1: 'fox' is none of the classes, which are Cat, owl"),
        ("a,b,y,c\n1,2,owl,3\n", r"t\.csv also has c; allowed: a, b, y"),
        ("a,y\n1,owl\n", r"t\.csv has no column b \(a column of a\.csv\); it has, .*, a, y"),
    ],
)
def test_a_test_file_fits_the_training_file(tmp_path, write, content, words):
    (tmp_path / "t.csv").write_text(content)
    with pytest.raises(ValueError, match=words):
        write(CSV, test_path="t.csv")


@pytest.mark.parametrize(
    ("column", "words"),
    [
        (pd.Timestamp("2020-01-01"), r"column b, row 1: 2020-01-01 00:00:00 is no number \(datetime64"),
        (pd.array([1, None] * 6, dtype="Int64"), "column b, row 2: no value"),
        ([[1, 2]] * 12, r"column b, row 1: '\[1 2\]' is no finite number"),
    ],
)
def test_parquet_columns_that_are_no_numbers_are_named(tmp_path, column, words):
    FRAME.assign(b=column).to_parquet(tmp_path / "a.parquet")
    with pytest.raises(ValueError, match=words):
        load(tmp_path, "a.parquet")


def test_a_missing_and_a_damaged_file_are_named(tmp_path, write):
    with pytest.raises(ValueError, match=r"no file .*a\.csv; paths are relative to `data_dir`"):
        load(tmp_path)
    with pytest.raises(ValueError, match=r"a\.parquet cannot be read as a table"):
        write(b"PAR1junkPAR1", "a.parquet")
