"""Where the user's files are that data entries are read from: nothing depends on it."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

#: Keys of data entries that are files or folders below the folder of raw data.
PATHS = (
    *("path", "test_path", "val_path", "table_path"),
    *("source_path", "target_path", "test_source_path", "test_target_path", "val_source_path", "val_target_path"),
)


def user_paths(entry: Any) -> dict[str, str]:
    """Return the paths of the user's files that a data entry is read from, by key: `PATHS`, or `file` and `files.*`."""
    if hasattr(entry, "file"):
        return {"file": entry.file, **{f"files.{name}": str(place) for name, place in entry.places.items()}}
    return {key: getattr(entry, key) for key in PATHS if getattr(entry, key, None) is not None}


def user_places(paths: Mapping[str, str], data_dir: Path) -> dict[str, Path]:
    """Return where the data files of `user_paths` are; the module's file counts as code."""
    return {
        key: data_dir.expanduser() / Path(path).expanduser() if key in PATHS else Path(path)
        for key, path in paths.items()
        if key != "file"
    }
