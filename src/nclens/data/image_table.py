"""Images to regress numbers from: a folder, and a table with a row an image that names its file and its targets."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from nclens.data.columns import number_column, read_table, refuse_absent
from nclens.data.images import read_image, stack_images
from nclens.data.raw import RawData
from nclens.data.regression import RegressionDataset, Scaling, scaled_splits
from nclens.data.shares import Wanted, draw_unstratified

#: Values of the column of splits.
SPLITS = ("train", "test", "val")


def load(
    raw: RawData,
    path: str,
    table_path: str,
    image: str,
    targets: Sequence[str],
    split: str | None,
    image_size: int | None,
    channels: int,
    scale_targets: Scaling,
    split_seed: int,
    test: float | None = None,
    validation: float | None = None,
) -> RegressionDataset:
    """Return images as uint8 (N, C, H, W) and their targets, float32 (N, n), in the table's order.

    Args:
        raw: the folder of raw data.
        path: the folder of the images, relative to that of raw data unless absolute.
        table_path: the table, as `nclens.data.columns.read_table` reads it; relative as `path`.
        image: the column of the images' files, relative to the folder.
        targets: the n columns of the numbers to regress.
        split: the column that says `train`, `test` or `val`; None where shares make the splits.
        image_size, channels: as `nclens.data.images.stack_images`.
        scale_targets: as `nclens.data.regression.scaled`.
        split_seed: seed of the shares.
        test, validation: shares of the samples, as in `nclens.data.shares.draw_unstratified`.

    Raises:
        ValueError: the folder or the table is missing or lacks a column, a row has no file, a target that is no number
            or a split of another name, a file is named twice, or an image cannot be read; names the file and the row,
            counted from 1 without the row of names.
    """
    root, file = raw.place(path), raw.place(table_path)
    if not root.is_dir():
        raise ValueError(f"image_table: no folder {root.resolve()}; `path` is relative to `data_dir` unless absolute")
    texts = [image, *([split] if split else [])]
    table = read_table(file, texts)
    refuse_absent(table, [image], "`image`", file)
    refuse_absent(table, targets, "`targets`", file)
    refuse_absent(table, texts[1:], "`split`", file)
    files = _files(root, table[image].tolist(), file)
    advice = "every image needs its targets"
    values = torch.stack(
        [torch.from_numpy(number_column(table[name], f"{file}: column {name}", advice)) for name in targets], 1
    )
    rows = _rows(table[split].tolist(), f"{file}: column {split}") if split else {"train": torch.arange(len(files))}
    wanted = Wanted(split_seed=split_seed, test=test, validation=validation)
    drawn = draw_unstratified({name: values[index] for name, index in rows.items()}, wanted, str(file))
    chosen = {name: rows[of][index] for name, (of, index) in drawn.items()}
    fields: dict[str, Any] = {}
    for name, index in chosen.items():
        pictures = (read_image(files[row]) for row in index.tolist())
        fields[f"{name}_inputs"] = stack_images(pictures, len(index), image_size, channels, f"{root}, {name} split")
    return RegressionDataset(
        **fields,
        **scaled_splits({name: values[index] for name, index in chosen.items()}, scale_targets),
        targets=list(targets),
        source=f"images of the folder {path}, targets of {table_path}",
        facts=wanted.facts,
    )


def _files(root: Path, names: Sequence[Any], table: Path) -> list[Path]:
    """Return the images' files, which are all there and named once."""
    found: dict[Path, int] = {}
    for row, name in enumerate(names, start=1):
        if not isinstance(name, str) or not name.strip():
            raise ValueError(f"{table}: row {row} names no file")
        place = root / name.strip()
        if not place.is_file():
            raise ValueError(f"{table}: row {row}: no file {place}")
        if place in found:
            raise ValueError(f"{table}: rows {found[place]} and {row} name the same file {name.strip()}")
        found[place] = row
    return list(found)


def _rows(names: Sequence[Any], what: str) -> dict[str, Tensor]:
    """Return the rows of each split."""
    stripped = [name.strip() if isinstance(name, str) else name for name in names]
    for row, name in enumerate(stripped, start=1):
        if name not in SPLITS:
            raise ValueError(f"{what}: row {row} has {name!r}; allowed: {', '.join(SPLITS)}")
    found = {split: [row for row, name in enumerate(stripped) if name == split] for split in SPLITS}
    if not found["train"]:
        raise ValueError(f"{what}: no row is of the split train")
    return {split: torch.tensor(rows) for split, rows in found.items() if rows}
