"""Columns of a user's table, a CSV or a Parquet file: numbers, or texts and whole numbers that become classes."""

import codecs
import contextlib
import csv
import gzip
import io
import itertools
import re
import warnings
import zlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, cast

import numpy as np
from numpy.typing import NDArray

from nclens.data.numbers import WHOLE_FLOAT64

if TYPE_CHECKING:
    from pandas import DataFrame, Series

#: Cells of a CSV file without a value.
MISSING = ("", "NA", "N/A", "NaN", "nan", "NULL", "null")
#: What a column without a name is called, with its place, counted from 1.
UNNAMED = "unnamed column"
#: Characters that separate the cells of a row, and what messages call them; the first is taken where two fit alike.
SEPARATORS = {"\t": "tab", ";": "semicolon", ",": "comma"}
#: Lines by which the separator is found.
SAMPLED = 50
#: What a file is that begins with these bytes, and no UTF-8 text.
BEGINNINGS = {
    codecs.BOM_UTF16_LE: "UTF-16 or UTF-32: save it as UTF-8",
    codecs.BOM_UTF16_BE: "UTF-16: save it as UTF-8",
    codecs.BOM_UTF32_BE: "UTF-32: save it as UTF-8",
    b"\x1f\x8b": "compressed: a compressed table ends with .csv.gz or .tsv.gz",
    b"PK\x03\x04": "a ZIP archive, as a spreadsheet (.xlsx) is: save it as CSV",
    b"PAR1": "a Parquet file: its name ends with .parquet",
}
#: A whole number as it is usually written, perhaps as a float: a label that is a number. Any other is a text.
NUMERAL = re.compile(r"(0|-?[1-9][0-9]*)(\.0+)?")


def read_table(file: Path, texts: Iterable[str] = ()) -> "DataFrame":
    """Return a table, a row a sample; columns in `texts` of a CSV file stay as they are written.

    The first row of a CSV file has the names of the columns. Cells are separated by a comma, a semicolon or a tab: by a
    tab in a file `.tsv`, otherwise by the one that splits most of the first rows into as many cells as there are names.
    Spaces after a separator and around a name are skipped. The text is UTF-8, and numbers have a decimal point. Files
    that end in `.gz` are decompressed. A column without a name, such as an index that pandas wrote, is called `unnamed
    column 1`, by its place. `attrs["separator"]` names the separator.

    Raises:
        ValueError: the file is missing, has no rows or cannot be read, or columns have the same name.
    """
    if not file.is_file():
        raise ValueError(f"table: no file {file.resolve()}; paths are relative to `data_dir` unless absolute")
    try:
        frame = _parquet(file) if file.suffix.lower() == ".parquet" else _csv(file, texts)
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{file} cannot be read as a table: it is no UTF-8 text (byte 0x{error.object[error.start]:02x} is "
            f"{error.reason}): save it as UTF-8"
        ) from error
    except (OSError, ValueError, EOFError, csv.Error, zlib.error, Warning) as error:
        raise ValueError(f"{file} cannot be read as a table: {_plain(str(error).strip())}") from error
    names = [
        str(name) if str(name).strip() else f"{UNNAMED} {place}" for place, name in enumerate(frame.columns, start=1)
    ]
    if repeated := [name for place, name in enumerate(names) if name in names[:place]]:
        raise ValueError(f"{file} has the column {repeated[0]} twice; names must differ")
    if not len(frame):
        raise ValueError(f"{file} has no rows")
    return frame.set_axis(names, axis=1)


def _plain(message: str) -> str:
    """Return pandas' message on a row with too many cells or an open quotation in plain words, any other as it is."""
    if found := re.search(r"Expected (\d+) fields in line (\d+), saw (\d+)", message):
        return f"line {found[2]} has {found[3]} cells, but line 1 names {found[1]} columns"
    if found := re.search(r"EOF inside string starting at row (\d+)", message):
        return f"a quotation mark is never closed, the one in row {found[1]}"
    return message


def _csv(file: Path, texts: Iterable[str]) -> "DataFrame":
    import pandas as pd

    packed = file.suffix.lower() == ".gz"
    separator, names = _first_rows(file, packed)
    kept = set(texts)
    # By place, as names may repeat.
    missing: Any = {place: list(MISSING) for place, name in enumerate(names) if name not in kept}
    with warnings.catch_warnings():
        # A row with more cells than there are names: pandas warns, and drops the rest.
        warnings.simplefilter("error", pd.errors.ParserWarning)
        frame = pd.read_csv(
            file,
            sep=separator,
            skipinitialspace=True,
            header=0,
            names=list(range(len(names))),
            index_col=False,
            dtype={place: str for place, name in enumerate(names) if name in kept},
            keep_default_na=False,
            na_values=missing,
            encoding="utf-8-sig",
            compression="gzip" if packed else None,
            low_memory=False,
        ).set_axis(names, axis=1)
    frame.attrs["separator"] = SEPARATORS[separator]
    return frame


def _first_rows(file: Path, packed: bool) -> tuple[str, list[str]]:
    """Return the separator of a CSV file, and the names in its first row."""
    with cast("IO[bytes]", gzip.open(file, "rb") if packed else open(file, "rb")) as opened:
        start = opened.read(4)
        for beginning, what in BEGINNINGS.items():
            if start.startswith(beginning):
                raise ValueError(f"it is {what}")
        if b"\0" in start:
            raise ValueError("it is no UTF-8 text, but perhaps UTF-16: save it as UTF-8")
        opened.seek(0)
        # Lines may end as on any system, with CR alone too.
        with io.TextIOWrapper(opened, encoding="utf-8-sig", newline="") as text:
            lines = list(itertools.islice(text, SAMPLED))
    if not lines:
        raise ValueError("it is empty")
    if not lines[0].strip():
        raise ValueError("line 1 is empty: it must have the names of the columns")
    ending = [suffix for suffix in file.suffixes if suffix.lower() != ".gz"][-1:]
    only = ["\t"] if [suffix.lower() for suffix in ending] == [".tsv"] else SEPARATORS
    rows = {separator: _cells(lines, separator) for separator in only}

    def fit(separator: str) -> tuple[bool, int, int]:
        first, *others = map(len, rows[separator])
        return first > 1, sum(cells == first for cells in others), first

    separator = max(only, key=fit) if any(fit(one)[0] for one in only) else [*only][-1]
    names, *others = rows[separator]
    for number, row in enumerate(others[:1], start=2):
        if len(row) > len(names):
            raise ValueError(
                f"line {number} has {len(row)} cells, but line 1 names {_counted(len(names), 'column')}, separated by "
                f"a {SEPARATORS[separator]}: line 1 must have the names of all columns, with no other line before it"
            )
    return separator, [name.strip() for name in names]


def _cells(lines: Sequence[str], separator: str) -> list[list[str]]:
    """Return the rows in lines of a CSV file that are not empty, up to one with a cell longer than `csv` reads."""
    rows: list[list[str]] = []
    with contextlib.suppress(csv.Error):
        rows.extend(row for row in csv.reader(lines, delimiter=separator, skipinitialspace=True) if row)
    if not rows:
        raise ValueError("line 1 cannot be read as the names of the columns")
    return rows


def _counted(count: int, what: str) -> str:
    return f"{count} {what}" if count == 1 else f"{count} {what}s"


def _parquet(file: Path) -> "DataFrame":
    import pyarrow as pa
    from pyarrow import parquet

    try:
        # Without pandas' index, which is no column.
        return parquet.read_table(file).to_pandas()
    except pa.ArrowException as error:
        raise ValueError(str(error).split("\n")[0]) from error


def refuse_absent(frame: "DataFrame", names: Sequence[str], why: str, file: Path) -> None:
    """Raise a ValueError for columns that a table lacks; lists those that it has, and names its separator."""
    if absent := [name for name in names if name not in frame.columns]:
        separator = frame.attrs.get("separator")
        by = f", with a {separator} as separator," if separator else ""
        missing, present = (
            ", ".join(f"'{name}'" if "," in name else name for name in some) for some in (absent, frame.columns)
        )
        raise ValueError(f"{file} has no column {missing} ({why}); it has{by} {present}")


def number_column(column: "Series[Any]", what: str, advice: str) -> NDArray[np.float64]:
    """Return a column of numbers as float64 (N,); false is 0 and true 1.

    Args:
        column: the column.
        what: its name in error messages.
        advice: the end of the message for a cell that is no number: what to do.

    Raises:
        ValueError: a cell has no value, or one that is no finite number, or a whole number beyond 2^53; names the
            column, and the row, counted from 1.
    """
    import pandas as pd

    values = pd.to_numeric(column, errors="coerce") if column.dtype.kind in "OUT" else column
    if values.dtype.kind not in "biuf":
        raise ValueError(f"{what}, row 1: {column.iloc[0]} is no number ({column.dtype}); {advice}")
    given = column.isna().to_numpy(dtype=bool)
    numbers = values.to_numpy(dtype=np.float64, na_value=np.nan)
    if len(wrong := np.flatnonzero(~np.isfinite(numbers))):
        row = wrong[0]
        cell = "no value" if given[row] else f"{str(column.iloc[row])!r} is no finite number"
        if re.fullmatch(r"[+-]?[0-9]+,[0-9]+", str(column.iloc[row]).strip()):
            cell += " (with a decimal point, as 0.5)"
        raise ValueError(f"{what}, row {row + 1}: {cell}; {advice}")
    whole = values.to_numpy() if values.dtype.kind in "iu" else np.zeros(0)
    if len(far := np.flatnonzero((whole > WHOLE_FLOAT64) | (whole < -WHOLE_FLOAT64))):
        raise ValueError(
            f"{what}, row {far[0] + 1}: {column.iloc[far[0]]} is beyond 2^53 = {WHOLE_FLOAT64}, to which float64 has "
            "every whole number: subtract an offset first"
        )
    return numbers


def class_columns(columns: Mapping[str, "Series[Any]"], advice: str = "") -> dict[str, NDArray[Any]]:
    """Return the labels (N,) of each split: int64 in all of them if they are whole numbers, otherwise texts in all.

    A text is a whole number as it is usually written, `12` or `12.0`; `012` and `1e2` are texts, so that labels that
    are written differently are different classes. Blanks around a text do not count.

    Args:
        columns: the column of each split, by its name in error messages.
        advice: the end of the message for numbers that are not whole.

    Raises:
        ValueError: a cell has no value, or numbers are not whole; names the column, and the row, counted from 1.
    """
    labels = {what: _labels(column, what, advice) for what, column in columns.items()}
    if all(NUMERAL.fullmatch(label) for texts in labels.values() for label in np.unique(texts).tolist()):
        whole = {what: texts.astype(np.float64) for what, texts in labels.items()}
        # The limit is also what the next whole number is rounded to.
        if all(np.abs(numbers).max(initial=0) < WHOLE_FLOAT64 for numbers in whole.values()):
            return {what: numbers.astype(np.int64) for what, numbers in whole.items()}
    return labels


def _labels(column: "Series[Any]", what: str, advice: str) -> NDArray[np.str_]:
    """Return a column of labels as texts (N,), without blanks around them; whole numbers without a point."""
    import pandas as pd

    missing = column.isna().to_numpy(dtype=bool)
    texts = np.char.strip(column.astype(str).to_numpy(dtype=str))
    if len(empty := np.flatnonzero(missing | np.isin(texts, MISSING))):
        raise ValueError(f"{what}, row {empty[0] + 1}: no value; every sample needs a label")
    if isinstance(column.dtype, pd.CategoricalDtype):
        column = column.astype(column.cat.categories.dtype)
    if column.dtype.kind in "biu":
        return texts
    numbers = pd.to_numeric(pd.Series(texts), errors="coerce").to_numpy(dtype=np.float64)
    if np.isfinite(numbers).all() and len(broken := np.flatnonzero(numbers != np.rint(numbers))):
        raise ValueError(
            f"{what}, row {broken[0] + 1}: {texts[broken[0]]} is no class; allowed are texts and whole numbers{advice}"
        )
    if column.dtype.kind != "f":
        return texts
    # What is infinite is no number of a class, but a text.
    finite = np.isfinite(numbers)
    return np.array([str(int(number)) if ok else text for number, ok, text in zip(numbers, finite, texts, strict=True)])
