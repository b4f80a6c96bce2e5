"""The types of values in a study's configuration, and the table that refuses unknown keys."""

import ast
import difflib
import inspect
import os
import re
import sys
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache, reduce
from itertools import pairwise
from operator import or_
from pathlib import Path
from typing import Annotated, Any, ClassVar, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    GetCoreSchemaHandler,
    GetJsonSchemaHandler,
    Tag,
    ValidationInfo,
    model_validator,
)
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, PydanticCustomError, core_schema
from typing_extensions import TypeAliasType

from nclens.study.signatures import fault_of, signature_of


def _number(value: Any) -> Any:
    """Accept what YAML 1.1 leaves as text (`1e-3`), refuse booleans."""
    if isinstance(value, bool):
        raise PydanticCustomError("number", "must be a number")
    if isinstance(value, str):
        try:
            return float(value)
        except ValueError:
            raise PydanticCustomError("number", "must be a number") from None
    return value


@dataclass(frozen=True)
class Matching:
    """An annotation of text that matches a regular expression; its error says what the text must be."""

    pattern: str
    said: str

    def check(self, value: str) -> str:
        """Return the text if it matches."""
        # Unlike in a JSON schema, $ also matches before a newline at the end.
        if not re.search(self.pattern, value) or value.endswith("\n"):
            raise PydanticCustomError("pattern", "must be {said}", {"said": self.said})
        return value

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        """Return the schema of text that is checked."""
        return core_schema.no_info_after_validator_function(self.check, handler(source))

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        """Return the schema for editors, with the regular expression."""
        return handler(schema) | {"pattern": self.pattern}


@dataclass(frozen=True)
class Line:
    """An annotation of text that is one line of at most so many characters."""

    most: int
    least: int = 0

    def check(self, value: str) -> str:
        """Return the text if it is one line, not too short and not too long."""
        if len(value) > self.most:
            message = "has {n} characters; at most {most} are allowed"
            raise PydanticCustomError("line", message, {"n": len(value), "most": self.most})
        if len(value.strip()) < self.least:
            raise PydanticCustomError("line", "must not be empty")
        for place, character in enumerate(value):
            if unicodedata.category(character) in ("Cc", "Cs", "Zl", "Zp"):
                message = "must be one line of text; the character {character} at {place} is a control character"
                raise PydanticCustomError("line", message, {"character": f"U+{ord(character):04X}", "place": place})
        return value

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        """Return the schema of text that is checked."""
        return core_schema.no_info_after_validator_function(self.check, handler(source))

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        """Return the schema for editors, with the lengths."""
        lengths: dict[str, Any] = {"maxLength": self.most}
        if self.least:
            lengths["minLength"] = self.least
        return handler(schema) | lengths


Number = Annotated[float, BeforeValidator(_number), Field(allow_inf_nan=False)]
Integer = Annotated[int, Field(strict=True)]
Flag = Annotated[bool, Field(strict=True)]
Positive = Annotated[Number, Field(gt=0)]
NonNegative = Annotated[Number, Field(ge=0)]
Count = Annotated[Integer, Field(ge=1, lt=2**31)]
Seed = Annotated[Integer, Field(ge=0, lt=2**31)]


def _no_value(name: str) -> str:
    """Refuse names that a table read again would take for a value."""
    if name.lower() in {"na", "nan", "null", "none", "inf", "infinity", "true", "false"}:
        raise PydanticCustomError("name", "reads as a value in a table; choose another name")
    return name


# A name becomes a folder and a wildcard of the workflow, so it has no separator and no blank; it is a cell of tables,
# so it is no number either.
Name = Annotated[
    str,
    Matching(
        r"^[A-Za-z][A-Za-z0-9_.+-]{0,63}$",
        "a name of at most 64 characters: a letter, then letters, digits and _ . + -",
    ),
    AfterValidator(_no_value),
]
Keyword = Annotated[
    str,
    Matching(
        r"^[^\W\d]\w{0,63}$",
        "a Python name of at most 64 characters: a letter or _, then letters, digits and _",
    ),
]
#: Names of files and folders, and keys within files.
Text = Annotated[str, Line(1000, least=1)]
Colour = Annotated[str, Matching(r"^#[0-9A-Fa-f]{6}$", "a colour as #1f77b4, with six hexadecimal digits")]
Function = Annotated[
    str, Matching(r"^[A-Za-z_][\w.]{0,199}:[A-Za-z_]\w{0,99}$", "module:function, of letters, digits and _")
]
Sha256 = Annotated[str, Matching(r"^[0-9a-f]{64}$", "a SHA-256 of 64 hexadecimal digits, in lower case")]


def _ending(*endings: str) -> str:
    """Return the pattern of names with one of these endings, in small letters or capitals, as JSON schemas read it."""
    alike = ["".join(f"[{one}{one.upper()}]" if one.isalpha() else f"\\{one}" for one in ending) for ending in endings]
    return rf"\.({'|'.join(alike)})$"


ArrayFile = Annotated[
    str,
    Line(1000),
    Matching(
        _ending("npz", "safetensors"),
        "a file of arrays, .npz or .safetensors (numpy.savez writes one; `source: table` reads CSV and Parquet files)",
    ),
]
TableFile = Annotated[
    str,
    Line(1000),
    Matching(
        _ending("csv", "tsv", "csv.gz", "tsv.gz", "parquet"), "a table: .csv, .tsv, both perhaps .gz, or .parquet"
    ),
]
#: Of a name alone, because what is elsewhere or hidden is not watched.
FolderName = Annotated[Text, Matching(r"^[^./\\][^/\\]*$", "a folder's name, without a slash or a dot in front")]


@cache
def _classes(module: str) -> dict[str, ast.ClassDef]:
    """The classes of a module that was imported, by name."""
    tree = ast.parse(inspect.getsource(sys.modules[module]))
    return {node.name: node for node in tree.body if isinstance(node, ast.ClassDef)}


class Closed(BaseModel):
    """A frozen table of the configuration in which every key is known."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    #: Keys of earlier versions, and what they are called now.
    renamed: ClassVar[Mapping[str, str]] = {}

    @model_validator(mode="before")
    @classmethod
    def _refuse_unknown_keys(cls, data: Any) -> Any:
        if not isinstance(data, Mapping):
            raise PydanticCustomError(
                "table", "must be a table of keys; allowed: {keys}", {"keys": ", ".join(cls.keys())}
            )
        allowed = cls.keys()
        for key in data:
            if key in cls.renamed:
                message = "the key `{key}` is now called `{new}`; allowed: {keys}"
                context = {"key": key, "new": cls.renamed[key], "keys": ", ".join(allowed)}
                raise PydanticCustomError("unknown_key", message, context)
            if key not in allowed:
                near = difflib.get_close_matches(str(key), allowed, n=1)
                raise PydanticCustomError(
                    "unknown_key",
                    "unknown key `{key}`{hint}; allowed: {keys}",
                    {
                        "key": str(key),
                        "hint": f" (did you mean `{near[0]}`?)" if near else "",
                        "keys": ", ".join(allowed),
                    },
                )
        return data

    @classmethod
    def keys(cls) -> list[str]:
        """The keys that this table may hold."""
        return [field.alias or name for name, field in cls.model_fields.items()]

    @classmethod
    def descriptions(cls) -> dict[str, str]:
        """What the docstrings below the fields say, by field.

        Read from the source where it is wanted: pydantic's `use_attribute_docstrings` reads it whenever the models are
        imported, which takes as long as all the rest of that import.
        """
        found: dict[str, str] = {}
        for owner in reversed(cls.__mro__):
            if not issubclass(owner, Closed):
                continue
            for field, text in pairwise([*_classes(owner.__module__)[owner.__name__].body, ast.Pass()]):
                if not isinstance(field, ast.AnnAssign) or not isinstance(field.target, ast.Name):
                    continue
                found.pop(field.target.id, None)
                if isinstance(text, ast.Expr) and isinstance(text.value, ast.Constant):
                    found[field.target.id] = inspect.cleandoc(str(text.value.value))
        return {name: text for name, text in found.items() if name in cls.model_fields}

    @classmethod
    def __get_pydantic_json_schema__(cls, core: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        schema = handler(core)
        keys = handler.resolve_ref_schema(schema)["properties"]
        for name, text in cls.descriptions().items():
            keys[cls.model_fields[name].alias or name].setdefault("description", text)
        return schema


class Custom(Closed):
    """A part that the user wrote: a function in a file of theirs beside the configuration."""

    function: Function
    """`module:function`; the module is a file beside the configuration."""
    parameters: dict[Keyword, Any] = {}
    """Keyword arguments that the function is called with."""
    files: tuple[Annotated[str, Field(min_length=1)], ...] = ()
    """Files and folders that the function reads, beside its module's file unless absolute; an edit of one runs again
    what depends on the function."""
    file: str | None = None
    """The module's file; found beside the configuration, not written by hand."""

    #: What the function gets as its first arguments.
    given: ClassVar[tuple[str, ...]] = ()
    #: What it may name among its parameters, and then gets by name.
    offered: ClassVar[tuple[str, ...]] = ()

    @classmethod
    def keys(cls) -> list[str]:
        """The keys that this table may hold."""
        found = super().keys()
        return [key for key in found if key != "file"]

    @model_validator(mode="after")
    def _find_module(self, info: ValidationInfo) -> Self:
        module, function = self.function.split(":")
        folders = [Path(folder) for folder in (info.context or {}).get("folders", ["."])]
        candidates = [folder / (module.replace(".", "/") + ".py") for folder in folders]
        found = next((path for path in candidates if os.path.isfile(path)), None)
        if found is None:
            raise PydanticCustomError(
                "function",
                "function = {own}: there is no file {paths}",
                {"own": self.function, "paths": " or ".join(map(str, candidates))},
            )
        try:
            tree = ast.parse(found.read_text(encoding="utf-8"))
        except (SyntaxError, ValueError, OSError, RecursionError, MemoryError) as error:
            detail = f", line {error.lineno}: {error.msg}" if isinstance(error, SyntaxError) else f": {error}"
            raise PydanticCustomError(
                "function",
                "function = {own}: cannot be read as Python: {place}",
                {"own": self.function, "place": f"{found}{detail}"},
            ) from None
        known = [node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.ClassDef)]
        if function not in known:
            raise PydanticCustomError(
                "function",
                "function = {own}: no function `{function}` in {file}; it has: {known}",
                {"own": self.function, "function": function, "file": str(found), "known": ", ".join(known) or "none"},
            )
        signature = signature_of(tree, function)
        if signature and (fault := fault_of(signature, self.given, self.parameters, self.offers())):
            message = "parameters: {own} ({file}) {fault}"
            context = {"own": self.function, "file": str(found), "fault": fault}
            raise PydanticCustomError("parameters", message, context)
        object.__setattr__(self, "file", os.path.relpath(found))
        for name, place in self.places.items():
            if not place.exists():
                message = "files: there is no file or folder {place}; `files` are beside {module} unless absolute"
                context = {"place": str(place), "name": name, "module": str(found)}
                raise PydanticCustomError("files", message, context)
        return self

    def offers(self) -> tuple[str, ...]:
        """Return what the function gets by name where it names it."""
        return self.offered

    @property
    def places(self) -> dict[str, Path]:
        """Where the `files` are."""
        return {name: Path(str(self.file)).parent / Path(name).expanduser() for name in self.files}


def named(name: str, annotation: Any) -> Any:
    """Return an annotation that the JSON schema has once, under a name, wherever it is used."""
    return TypeAliasType(name, annotation)


def kind(key: str, kinds: Mapping[str, type[Closed]], custom: type["Custom"] | None = None) -> Any:
    """Return the annotation of a table that is one of `kinds`, chosen by `key`, or the user's own (`function`)."""

    def check(value: Any) -> Any:
        if isinstance(value, Closed):
            return value
        if not isinstance(value, Mapping):
            other = " or `function`" if custom else ""
            raise PydanticCustomError(
                "table", "must be a table with the key `{key}`{other}", {"key": key, "other": other}
            )
        if (custom and "function" in value) or (isinstance(value.get(key), str) and value[key] in kinds):
            return value
        context = {"key": key, "allowed": ", ".join(kinds), "own": " or `function`" if custom else ""}
        if key not in value:
            raise PydanticCustomError("kind", "needs the key `{key}` (one of: {allowed}){own}", context)
        near = difflib.get_close_matches(str(value[key]), kinds, n=1)
        context |= {"value": str(value[key]), "hint": f" (did you mean `{near[0]}`?)" if near else ""}
        context["own"] = ", or your own by `function: module:name`" if custom else ""
        raise PydanticCustomError("kind", "unknown {key} `{value}`{hint}; allowed: {allowed}{own}", context)

    def discriminate(value: Any) -> str:
        if isinstance(value, Closed):
            return own if isinstance(value, Custom) else getattr(value, key)
        return own if custom and "function" in value else value[key]

    own = "function:"  # no key has this name: messages name the keys of a mistake's place, of which this is one
    members = ({own: custom} if custom else {}) | dict(kinds)
    union: Any = reduce(or_, (Annotated[member, Tag(tag)] for tag, member in members.items()))
    return Annotated[union, Discriminator(discriminate), BeforeValidator(check)]
