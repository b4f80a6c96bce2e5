"""Figures of the user's own: functions from an experiment's metrics to a Matplotlib figure."""

import difflib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, ClassVar

from pydantic import AfterValidator, Field, ValidationInfo, WithJsonSchema
from pydantic_core import PydanticCustomError

from nclens.figures.catalogue import FIGURES, GIVEN, FigureEntry
from nclens.study.fields import Custom, Line, Name

if TYPE_CHECKING:
    from nclens.study.study import Study


class CustomFigure(Custom):
    """A figure that the user's function draws, once an experiment.

    The function gets the table of the experiment's metrics, with the columns experiment, dataset, model, loss, seed,
    split, epoch, metric and value, and what its parameters name: `experiment`, its name; `losses`, in the order of
    drawing; `labels` and `colours`, loss -> text, loss -> #rrggbb; `baseline`; `theory` and `predictions`, tables of
    the unconstrained feature model; `class_names` or `target_names`; `last_features`, a function of a loss and a seed
    that returns the arrays of the last snapshot. It returns a Matplotlib figure, or a figure and the table that it
    shows.
    """

    given: ClassVar[tuple[str, ...]] = ("metrics",)
    offered: ClassVar[tuple[str, ...]] = GIVEN

    title: Annotated[str, Line(200)] = ""
    """What it shows, a few words; by default its name."""
    caption: Annotated[str, Line(1000)] = ""
    """How to read it."""
    experiments: tuple[Name, ...] | None = None
    """The experiments that it is drawn for; by default every one without a list `figures`, and those whose list names
    it."""


def _new(name: str) -> str:
    if name in FIGURES:
        raise PydanticCustomError("figure", "is the name of a built-in figure; choose another name")
    return name


Figures = Annotated[dict[Annotated[Name, AfterValidator(_new)], CustomFigure], Field(max_length=100)]


def _known(name: str, info: ValidationInfo) -> str:
    written = (info.context or {}).get("figures")
    known = [*FIGURES, *(written if isinstance(written, Mapping) else ())]
    if name not in known:
        near = difflib.get_close_matches(name, [key for key in known if isinstance(key, str)], n=1)
        hint = f" (did you mean `{near[0]}`?)" if near else ""
        message = "no such figure{hint}; allowed: {known}"
        raise PydanticCustomError("figure", message, {"hint": hint, "known": ", ".join(map(str, known))})
    return name


#: A figure of the catalogue, or of the study's table `figures`.
FigureName = Annotated[
    Name,
    AfterValidator(_known),
    WithJsonSchema({"anyOf": [{"enum": list(FIGURES), "type": "string"}, {"type": "string"}]}),
]


def shown(name: str, entry: CustomFigure) -> FigureEntry:
    """Return what the page shows of a figure of the user's own."""
    return FigureEntry(name, entry.title or name, f"this study's {entry.function}", entry.caption, "")


def check_figures(study: "Study") -> None:
    """Refuse figures of the user's own that no experiment draws, or that do not go with an experiment's list.

    Raises:
        PydanticCustomError: names the figure and the experiment.
    """
    for name, own in study.own_figures.items():
        for experiment in own.experiments or ():
            study.refer(f"figures.{name}.experiments", experiment, "experiments", study.experiments)
        drawn = [experiment for experiment in study.experiments if name in study.figures(experiment)]
        if not drawn:
            message = (
                "figures.{name}: no experiment draws it, for each has a list `figures`; allowed: name it in a list, or "
                "name experiments in figures.{name}.experiments"
            )
            raise PydanticCustomError("figures", message, {"name": name})
        for experiment in set(drawn).difference(own.experiments or drawn):
            message = (
                "experiments.{experiment}.figures = {name}: figures.{name}.experiments lacks {experiment}; add it, or "
                "leave the figure out here"
            )
            raise PydanticCustomError("figures", message, {"experiment": experiment, "name": name})
    files: dict[str, tuple[str, str]] = {}
    for place in ((experiment, stem) for experiment in study.experiments for stem in study.figures(experiment)):
        other = files.setdefault("_".join(place), place)
        if other != place:
            message = "figure {a} of experiment {b} and figure {c} of experiment {d} would be one file, {file}.png"
            context = {"a": other[1], "b": other[0], "c": place[1], "d": place[0], "file": "_".join(place)}
            raise PydanticCustomError("figures", message + "; give one another name", context)
