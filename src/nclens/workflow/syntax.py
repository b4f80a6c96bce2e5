"""What counts of a module's text: digests of its statements, what they read, and what the module imports.

Comments, formatting, docstrings and the texts of errors do not count. Nothing is imported. Reading the syntax trees of
the package takes a second, more than the rest of a workflow's start, so what was found is kept in the user's cache
folder, `$XDG_CACHE_HOME/nclens` or `~/.cache/nclens`, by the digest of the text: an edited module is read again. The
file's first line is the digest of the others, JSON: a damaged file is made again.
"""

import ast
import contextlib
import hashlib
import json
import os
import sys
from dataclasses import astuple, dataclass
from functools import cache
from pathlib import Path
from typing import Any

from nclens.workflow.files import write_text

#: Texts of which the analysis is kept: those of a few versions of the package.
MOST_KEPT = 1000


@dataclass(frozen=True)
class Syntax:
    """What counts of a module.

    Attributes:
        whole: digest of all its statements.
        names: each name that is defined at the top, the digest of its statement, and the names that this reads.
        imports: module, name and the name it is given; without a name the module itself is imported.
        attributes: each name that is imported, with what the module takes from it: `tables.read`.
    """

    whole: str
    names: dict[str, tuple[str, list[str]]]
    imports: list[tuple[str, str | None, str | None]]
    attributes: dict[str, list[str]]


def syntax_of(text: str, filename: str) -> Syntax:
    """Return what counts of a module's text, from the cache where it is there.

    Raises:
        SyntaxError: the text is no Python; names the file.
    """
    kept, key = _kept(), _digest(text)
    if key in kept:
        return Syntax(*kept[key])
    found = analyse(_without_errors_texts(parse(text, filename)))
    kept[key] = list(astuple(found))
    _new.append(key)
    return found


def keep() -> None:
    """Write what was found since the start to the user's cache; nothing where that cannot be written."""
    if _new and (path := _file()):
        kept = _kept()
        for key in list(kept)[: max(0, len(kept) - MOST_KEPT)]:
            del kept[key]
        text = json.dumps(kept)
        with contextlib.suppress(OSError):
            write_text(path, f"{_digest(text)}\n{text}")
        _new.clear()


def analyse(tree: ast.Module) -> Syntax:
    """Return what counts of a syntax tree."""
    names = {name: (digest_of(node), sorted(reads_of(node))) for node in tree.body for name in _defines(node)}
    imports: list[tuple[str, str | None, str | None]] = []
    for node in statements(tree):
        if isinstance(node, ast.Import):
            imports += [(alias.name, None, alias.asname) for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            imports += [(node.module, alias.name, alias.asname) for alias in node.names]
    taken: dict[str, set[str]] = {given or name: set() for _, name, given in imports if name}
    for part in ast.walk(tree):
        if isinstance(part, ast.Attribute) and isinstance(part.value, ast.Name) and part.value.id in taken:
            taken[part.value.id].add(part.attr)
    return Syntax(digest_of(tree), names, imports, {name: sorted(parts) for name, parts in taken.items() if parts})


@cache
def parse(text: str, filename: str) -> ast.Module:
    """Return a text's syntax tree without docstrings."""
    tree = ast.parse(text, filename)
    for node in statements(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            # A bare text counts nowhere: docstrings, and the attribute docstrings below a field.
            node.body = [child for child in node.body if not _is_text(child)] or [ast.Pass()]
    return tree


def statements(tree: ast.AST) -> list[ast.AST]:
    """Return a tree and all statements in it, at any depth: a tenth of what `ast.walk` goes through."""
    found = [tree]
    for node in found:  # it grows
        for field in ("body", "orelse", "handlers", "finalbody", "cases"):
            found += getattr(node, field, ())
    return found


def reads_of(node: ast.stmt) -> frozenset[str]:
    """Return the names in a statement."""
    return frozenset(child.id for child in ast.walk(node) if isinstance(child, ast.Name))


def digest_of(*trees: ast.AST) -> str:
    """Return the digest of syntax trees in their order, wherever their text stands."""
    return _digest("\n".join(ast.dump(tree, include_attributes=False) for tree in trees))


#: Digests of the texts that were read in this process and are not written yet.
_new: list[str] = []


@cache
def _kept() -> dict[str, Any]:
    """Return what the cache holds: digest of a text -> the fields of its `Syntax`."""
    path = _file()
    with contextlib.suppress(OSError, UnicodeDecodeError):
        digest, _, text = (path.read_text(encoding="utf-8") if path else "").partition("\n")
        if digest == _digest(text):  # else it is damaged, and a wrong digest would stand for a module's
            return json.loads(text)
    return {}


@cache
def _file() -> Path | None:
    """Return the cache's file, another for each Python and each version of this module; None without a home."""
    own = hashlib.sha256(Path(__file__).read_bytes()).hexdigest()[:16]
    folder = Path(os.environ.get("XDG_CACHE_HOME", ""))
    try:
        # The XDG specification has a relative path ignored.
        folder = folder if folder.is_absolute() else Path.home() / ".cache"
    except RuntimeError:
        return None
    return folder / "nclens" / f"syntax-{sys.version_info.major}.{sys.version_info.minor}-{own}.txt"


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _without_errors_texts(tree: ast.Module) -> ast.Module:
    """Drop what errors say: that something fails may change a result, the words do not."""
    for node in statements(tree):
        if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call):
            node.exc.args, node.exc.keywords = [], []
        elif isinstance(node, ast.Assert):
            node.msg = None
    return tree


def _is_text(node: ast.stmt) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)


def _defines(node: ast.stmt) -> list[str]:
    if isinstance(node, ast.FunctionDef | ast.ClassDef):
        return [node.name]
    targets = node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
    return [target.id for target in targets if isinstance(target, ast.Name)]
