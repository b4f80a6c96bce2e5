"""Hidden and tool-made files: they are neither classes nor samples, wherever a folder is read."""

import contextlib
import sys
from collections.abc import Iterator
from pathlib import Path, PurePath
from typing import Any

#: Names that file managers and archive tools leave behind, beside those that begin with a dot.
TOOL_MADE = frozenset(("thumbs.db", "desktop.ini", "__macosx"))


def is_hidden(path: str | PurePath) -> bool:
    """Return whether a relative path, or a folder in it, begins with a dot or is one of `TOOL_MADE`.

    >>> is_hidden("cat/.ipynb_checkpoints/1.png"), is_hidden("__MACOSX/cat"), is_hidden("cat/1.png")
    (True, True, False)
    """
    return any(part.startswith(".") or part.lower() in TOOL_MADE for part in PurePath(path).parts)


def visible(folder: Path) -> list[Path]:
    """Return the files and folders in a folder in the order of their names, without hidden ones."""
    return sorted(path for path in folder.iterdir() if not is_hidden(path.name))


@contextlib.contextmanager
def visible_to_torchvision(kind: type) -> Iterator[None]:
    """Let a data set's class of torchvision list folders without hidden files, while the context lasts."""
    from nclens._torchvision import import_torchvision

    folder = import_torchvision().datasets.folder
    list_samples = folder.make_dataset

    def find_classes(directory: Any) -> tuple[list[str], dict[str, int]]:
        classes = [path.name for path in visible(Path(directory)) if path.is_dir()]
        if not classes:
            raise FileNotFoundError(f"Couldn't find any class folder in {directory}.")
        return classes, {name: number for number, name in enumerate(classes)}

    def make_dataset(directory: Any, *arguments: Any, **options: Any) -> list[tuple[str, int]]:
        listed = list_samples(directory, *arguments, **options)
        return [(path, label) for path, label in listed if not is_hidden(Path(path).relative_to(directory))]

    replacements = {"find_classes": find_classes, "make_dataset": make_dataset}
    modules = [folder, *(sys.modules[base.__module__] for base in kind.__mro__)]
    # A set, as the modules of several bases may be one.
    found = {
        (module, name, getattr(module, name)) for module in modules for name in replacements if name in vars(module)
    }
    try:
        for module, name, _ in found:
            setattr(module, name, replacements[name])
        yield
    finally:
        for module, name, function in found:
            setattr(module, name, function)
