"""Columns of a user's table, a CSV or a Parquet file: numbers, or texts and whole numbers that become classes."""

import csv
import gzip
import warnings
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from nclens.data.numbers import WHOLE_FLOAT64

if TYPE_CHECKING:
    from pandas import DataFrame, Series

#: Cells of a CSV file without a value.
MISSING = ("", "NA", "N/A", "NaN", "nan", "NULL", "null")
#: What a column without a name is called, with its place, counted from 1.
UNNAMED = "unnamed column"
#: Characters that separate the cells of a row.
SEPARATORS = (",", ";", "\t")


def read_table(file: Path, texts: Iterable[str] = ()) -> "DataFrame":
    """Return a table, a row a sample; columns in `texts` of a CSV file stay as they are written.

    The first row of a CSV file has the names of the columns. Cells are separated by a comma, a semicolon or a tab,
    whichever that row has most of, and spaces after one are skipped. The text is UTF-8, and numbers have a decimal
    point. Files that end in `.gz` are decompressed. A column without a name, such as an index that pandas wrote, is
    called `unnamed column 1`, by its place.

    Raises:
        ValueError: the file is missing, has no rows or cannot be read, or columns have the same name.
    """
    if not file.is_file():
        raise ValueError(f"table: no file {file.resolve()}; paths are relative to `data_dir` unless absolute")
    try:
        frame = _parquet(file) if file.suffix == ".parquet" else _csv(file, texts)
    except (OSError, ValueError, EOFError, csv.Error, Warning) as error:
        raise ValueError(f"{file} cannot be read as a table: {str(error).strip()}") from error
    names = [
        str(name) if str(name).strip() else f"{UNNAMED} {place}" for place, name in enumerate(frame.columns, start=1)
    ]
    if repeated := [name for place, name in enumerate(names) if name in names[:place]]:
        raise ValueError(f"{file} has the column {repeated[0]} twice; names must differ")
    if not len(frame):
        raise ValueError(f"{file} has no rows")
    return frame.set_axis(names, axis=1)


def _csv(file: Path, texts: Iterable[str]) -> "DataFrame":
    import pandas as pd

    with gzip.open(file, "rb") if file.suffix == ".gz" else open(file, "rb") as opened:
        line = opened.readline().decode("utf-8-sig")
    separator = max(SEPARATORS, key=line.count)
    names = next(csv.reader([line], delimiter=separator, skipinitialspace=True), [])
    kept = set(texts)
    # By place, as names may repeat.
    missing: Any = {place: list(MISSING) for place, name in enumerate(names) if name not in kept}
    with warnings.catch_warnings():
        # A row with more cells than there are names: pandas warns, and drops the rest.
        warnings.simplefilter("error", pd.errors.ParserWarning)
        return pd.read_csv(
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
            low_memory=False,
        ).set_axis(names, axis=1)


def _parquet(file: Path) -> "DataFrame":
    import pyarrow as pa
    from pyarrow import parquet

    try:
        # Without pandas' index, which is no column.
        return parquet.read_table(file).to_pandas()
    except pa.ArrowException as error:
        raise ValueError(str(error).split("\n")[0]) from error


def refuse_absent(frame: "DataFrame", names: Sequence[str], why: str, file: Path) -> None:
    """Raise a ValueError for columns that a table lacks; lists those that it has."""
    if absent := [name for name in names if name not in frame.columns]:
        raise ValueError(f"{file} has no column {', '.join(absent)} ({why}); it has {', '.join(frame.columns)}")


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
        raise ValueError(f"{what}, row {row + 1}: {cell}; {advice}")
    whole = values.to_numpy() if values.dtype.kind in "iu" else np.zeros(0)
    if len(far := np.flatnonzero((whole > WHOLE_FLOAT64) | (whole < -WHOLE_FLOAT64))):
        raise ValueError(
            f"{what}, row {far[0] + 1}: {column.iloc[far[0]]} is beyond 2^53 = {WHOLE_FLOAT64}, to which float64 has "
            "every whole number: subtract an offset first"
        )
    return numbers


def class_column(column: "Series[Any]", what: str, advice: str = "") -> NDArray[Any]:
    """Return a column of labels (N,): whole numbers as int64, however they are written, anything else as texts.

    Args:
        column: the column.
        what: its name in error messages.
        advice: the end of the message for numbers that are not whole.

    Raises:
        ValueError: a cell has no value, or numbers are not whole; names the column, and the row, counted from 1.
    """
    import pandas as pd

    if column.dtype.kind == "b":
        return column.to_numpy(dtype=bool).astype(str)
    missing = column.isna().to_numpy(dtype=bool)
    texts = column.astype(str).to_numpy(dtype=str)
    if len(empty := np.flatnonzero(missing | np.isin(texts, MISSING))):
        raise ValueError(f"{what}, row {empty[0] + 1}: no value; every sample needs a label")
    numbers = pd.to_numeric(column.astype(str), errors="coerce").to_numpy(dtype=np.float64)
    if not np.isfinite(numbers).all():
        return texts
    if len(broken := np.flatnonzero(numbers != np.rint(numbers))):
        raise ValueError(
            f"{what}, row {broken[0] + 1}: {texts[broken[0]]} is no class; allowed are texts and whole numbers{advice}"
        )
    return numbers.astype(np.int64) if np.abs(numbers).max() <= WHOLE_FLOAT64 else texts
