"""Where a result comes from: the digest of the code that made it, the versions, the git revision.

The workflow gives every rule the digest of the code it runs as a parameter, so that Snakemake reruns a step when its
code changes and only then. The digest is read off the syntax trees, without importing anything: comments, formatting
and docstrings do not count, nor do the texts of the package's errors. It is computed at every parse of the workflow, so
this module imports no heavy package.
"""

import ast
import hashlib
import importlib.metadata
import os
import platform
import re
import subprocess
import symtable
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path

from nclens.data.hidden import visible
from nclens.workflow.syntax import Syntax, digest_of, keep, parse, reads_of, statements, syntax_of

PACKAGE = Path(__file__).parents[1]

#: Columns and JSON fields that hold the clock's time, the machine's speed or its memory: all else has the same bits
#: when the same specification runs again on the same machine.
CLOCK_FIELDS = (
    "seconds",
    "epoch_seconds",
    "wall_time",
    "training_seconds",
    "samples_per_second",
    "peak_memory_bytes",
    "finished",
)

#: Where code does not change what a step computes: it checks, names, plans, reads, writes and fetches files, chooses a
#: device, or tells a lack of memory from other errors. Of `workflow` only what follows counts.
PASSED_OVER = (
    *("nclens.cli", "nclens.study", "nclens.workflow"),
    *("nclens.data.raw", "nclens.data.download", "nclens.training.writer", "nclens.models.memory"),
)
COUNTED = tuple(
    f"nclens.workflow.{part}"
    for part in ("stages", "build", "tables", "tracking", "recorded", "saved_view", "aggregates", "logged_model")
)

#: Modules of registered functions: of these only what a step names counts, and what that calls.
REGISTRIES = ("nclens.losses", "nclens.models", "nclens.workflow.build", "nclens.workflow.tables")

#: Files that are no Python but belong to a package.
RESOURCES = {"nclens.report": "templates"}


def code_digest(
    stage: str,
    modules: Iterable[str] = (),
    functions: Iterable[str] = (),
    own: Iterable[tuple[str | Path, str]] = (),
    files: Iterable[tuple[str, str]] = (),
) -> str:
    """Return the digest of the code that a stage runs.

    Args:
        stage: the stage's name; its module is `nclens.workflow.stages.<stage>`, followed through every module of the
            package that it imports, directly or not.
        modules: further modules of the package, which the stage finds by name when it runs.
        functions: registered functions that the step uses, as `nclens.losses:ls`; each counts with what it calls.
        own: the user's own functions that the step uses, as (file, `module:function`); each counts with what it calls
            in its file, what is there outside functions, and the whole modules beside the file that it imports.
        files: further files of the user's that these functions read, as (name, digest of the content).
    """
    digest = hashlib.sha256()
    for key, text in sorted(code_parts(stage, modules, functions, own, files)):
        digest.update(f"{key}\n{text}\n".encode())
    keep()
    return digest.hexdigest()[:16]


def code_parts(
    stage: str,
    modules: Iterable[str] = (),
    functions: Iterable[str] = (),
    own: Iterable[tuple[str | Path, str]] = (),
    files: Iterable[tuple[str, str]] = (),
) -> set[tuple[str, str]]:
    """Return (name, digest) of all code that a stage runs, arguments as above; a name is `module` or `module:name`."""
    parts = set(_module_parts(f"nclens.workflow.stages.{stage}"))
    for module in modules:
        parts |= _module_parts(module)
    for function in functions:
        module, name = function.split(":")
        parts |= _name_parts(module, name)
    for file, function in own:
        parts |= _own_parts(Path(file), Path(file).parent, function.split(":")[1], set())
    return parts | {(f"files.{name}", digest) for name, digest in files}


@cache
def _module_parts(module: str) -> frozenset[tuple[str, str]]:
    """Return (name, digest) of a module and of everything of the package that it imports."""
    parts: set[tuple[str, str]] = set()
    todo, done = [module], set()
    while todo:
        current = todo.pop()
        if current in done or _passed_over(current):
            continue
        done.add(current)
        syntax = _syntax(current)
        if syntax is None:
            continue
        parts.add((current, syntax.whole))
        if current in RESOURCES:
            for path in visible(PACKAGE.joinpath(*current.split(".")[1:], RESOURCES[current])):
                if path.is_file():
                    parts.add((path.name, hashlib.sha256(path.read_bytes()).hexdigest()))
        for imported, name in _imports(current):
            if _is(imported, REGISTRIES):
                if name:
                    parts |= _name_parts(imported, name)
            else:
                todo.append(imported)
    return frozenset(parts)


@cache
def _name_parts(module: str, name: str) -> frozenset[tuple[str, str]]:
    """Return (name, digest) of a top-level name of a registry, of what it uses there, and of what that imports.

    A registry may be a package: names are followed through its modules, each with what it uses.
    """
    parts: set[tuple[str, str]] = set()
    todo, done = [(module, name)], set()
    while todo:
        where, current = todo.pop()
        if (where, current) in done or _passed_over(where):
            continue
        done.add((where, current))
        syntax = _syntax(where)
        assert syntax is not None, f"{where} is no module of the package"
        imported = {name or target.rsplit(".", 1)[-1]: target for target, name in _imports(where)}
        if current in syntax.names:
            digest, reads = syntax.names[current]
            parts.add((f"{where}:{current}", digest))
            todo += [(where, read) for read in reads]
        elif current in imported and _is(imported[current], REGISTRIES):
            todo.append((imported[current], current))
        elif current in imported:
            parts |= _module_parts(imported[current])
    return frozenset(parts)


def _own_parts(file: Path, root: Path, name: str | None, seen: set[Path]) -> set[tuple[str, str]]:
    """Return (name, digest) of a function of the user's file and of all that it may use; of all where name is None.

    `root` is the folder that its imports are looked for in.
    """
    if file.resolve() in seen:
        return set()
    if name is None:  # a file that a helper imports back counts whole, beside the function that was asked for
        seen.add(file.resolve())
    text = file.read_text(encoding="utf-8")
    tree, reads = parse(text, str(file)), _globals(text, str(file))
    definitions = {node.name: node for node in tree.body if isinstance(node, ast.FunctionDef | ast.ClassDef)}
    others = [node for node in tree.body if node not in definitions.values() and not _is_for_scripts(node)]
    todo, done = list(definitions) if name is None else [name], set[str]()
    todo += [read for node in others for read in reads_of(node)]
    while todo:
        current = todo.pop()
        if current in definitions and current not in done:
            done.add(current)
            todo += [*_in_its_head(definitions[current]), *reads[current]]
    where = os.path.relpath(file, root)
    # Statements are run in their order, and as often as they are there; of definitions neither matters.
    parts = {(where, digest_of(definitions[used])) for used in done} | {(f"{where}:", digest_of(*others))}
    for beside in _beside(file, root, tree):
        parts |= _own_parts(beside, root, None, seen)
    return parts


@cache
def _globals(text: str, filename: str) -> dict[str, frozenset[str]]:
    """Return each function and class of a module with the names of the module that it reads, not its own variables."""

    def read(table: symtable.SymbolTable) -> Iterator[str]:
        in_class = str(table.get_type()) == "class"  # there a name may be read before it is set
        yield from (symbol.get_name() for symbol in table.get_symbols() if in_class or symbol.is_global())
        for child in table.get_children():
            yield from read(child)

    found: dict[str, frozenset[str]] = {}
    for child in symtable.symtable(text, filename, "exec").get_children():
        found[child.get_name()] = found.get(child.get_name(), frozenset()) | frozenset(read(child))
    return found


def _in_its_head(node: ast.FunctionDef | ast.ClassDef) -> Iterator[str]:
    """Yield the names outside a function's or class's body: of decorators, defaults, annotations and bases."""
    head = [*node.decorator_list]
    if isinstance(node, ast.ClassDef):
        head += [*node.bases, *(keyword.value for keyword in node.keywords)]
    else:
        given = node.args
        arguments = [*given.posonlyargs, *given.args, *given.kwonlyargs, given.vararg, given.kwarg]
        annotations = [argument.annotation for argument in arguments if argument is not None]
        head += [one for one in (*given.defaults, *given.kw_defaults, *annotations, node.returns) if one is not None]
    yield from (child.id for part in head for child in ast.walk(part) if isinstance(child, ast.Name))


def _beside(file: Path, root: Path, tree: ast.Module) -> Iterator[Path]:
    """Yield the user's files below `root` that one of them imports: modules, and packages on the way to them."""
    for node in statements(tree):
        folder, names = root, [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom) and node.level <= len(file.parents):
            folder = file.parents[node.level - 1] if node.level else root
            # What is imported from a package may be a module of it.
            names = [f"{node.module or ''}.{alias.name}".lstrip(".") for alias in node.names]
        for name in names:
            path = folder
            for part in name.split("."):
                path /= part
                yield from (found for found in (path.with_suffix(".py"), path / "__init__.py") if found.is_file())


def own_files(file: Path) -> list[Path]:
    """Return a file of the user's own and every file beside it that it imports, directly or not, sorted."""
    todo, found = [file], set[Path]()
    while todo:
        current = todo.pop()
        if current not in found:
            found.add(current)
            todo += _beside(current, file.parent, parse(current.read_text(encoding="utf-8"), str(current)))
    return sorted(found)


def _is_for_scripts(node: ast.stmt) -> bool:
    """Return whether a statement is `if __name__ == "__main__":`, which does not run when the file is imported."""
    return isinstance(node, ast.If) and not node.orelse and ast.unparse(node.test) == "__name__ == '__main__'"


def _passed_over(module: str) -> bool:
    return _is(module, PASSED_OVER) and not _is(module, COUNTED)


def _is(module: str, family: Iterable[str]) -> bool:
    return any(module == member or module.startswith(member + ".") for member in family)


@cache
def _syntax(module: str) -> Syntax | None:
    """Return what counts of a module; None where the package has no such module."""
    if not _is(module, ["nclens"]):
        return None
    path = PACKAGE.joinpath(*module.split(".")[1:])
    source = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    return syntax_of(source.read_text(encoding="utf-8"), str(source)) if source.is_file() else None


@cache
def _imports(module: str) -> tuple[tuple[str, str | None], ...]:
    """Return what a module imports of the package, as (module, name) pairs; name is None for a whole module.

    Of a registry that is imported as a module, the names are those that the module takes from it: `tables.read`.
    """
    syntax = _syntax(module)
    found: list[tuple[str, str | None]] = []
    for target, name, given in syntax.imports if syntax else ():
        submodule = f"{target}.{name}"
        if not name or not _syntax(submodule):
            found.append((target, name))
        elif _is(submodule, REGISTRIES) and syntax:
            found += [(submodule, taken) for taken in syntax.attributes.get(given or name, ())]
        else:
            found.append((submodule, None))
    return tuple((target, name) for target, name in found if _is(target, ["nclens"]))


def versions() -> dict[str, str]:
    """Return the versions of Python and of the packages that decide a result."""
    packages = ("nclens", "torch", "torchvision", "numpy", "scipy", "pandas", "mlflow", "snakemake")
    found = {"python": platform.python_version()}
    for package in packages:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def repository() -> str | None:
    """Return the address of the page of the package's repository, by its remote `origin`; None where there is none.

    A user's name and password in it are left out. An installed package is in no repository of its own.
    """
    remote = _git("config", "--get", "remote.origin.url")
    return page_of(remote) if remote else None


def page_of(remote: str) -> str | None:
    """Return the address of a repository's page by its git address; None for a folder or an unknown form.

    >>> page_of("git@github.com:owner/name.git"), page_of("https://user:secret@example.org/a/b.git"), page_of("/srv/a")
    ('https://github.com/owner/name', 'https://example.org/a/b', None)
    """
    found = re.fullmatch(
        r"(?:(?:https?|ssh|git)://(?:[^@/]+@)?|[^@/:]+@)([\w.-]+)(?::\d+/|[:/])([\w./~-]+?)(?:\.git)?/?", remote
    )
    return f"https://{found[1]}/{found[2]}" if found else None


def git_revision() -> str | None:
    """Return the git revision of the package's checkout, `+changes` added where files differ; None outside one."""
    return _git("describe", "--always", "--abbrev=40", "--exclude=*", "--dirty=+changes")


def _git(*arguments: str) -> str | None:
    """Return what git says of the package's checkout; None where there is none, or nothing to say.

    An installed package may lie in another project's repository, which is not meant.
    """
    if not (PACKAGE.parents[1] / ".git").exists():
        return None
    try:
        done = subprocess.run(["git", *arguments], cwd=PACKAGE, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip() or None
