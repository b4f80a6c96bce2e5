"""The page: a list of sections, each a template and its content."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any, Self

import pandas as pd

from nclens.figures.film_inputs import CLASSES, VALUES
from nclens.report.links import Link, papers
from nclens.report.mathml import assignment, mathml
from nclens.report.text import number
from nclens.ufm.formulas import CLOSED_FORMS, FORMULAS, REGRESSION, SYMBOLS

if TYPE_CHECKING:
    from jinja2 import Environment


@dataclass(frozen=True)
class Section:
    """One section of the page.

    Attributes:
        anchor: its address within the page, letters and hyphens.
        title: its heading.
        template: a file of `nclens/report/templates`.
        content: what the template calls `content`.
        links: where its numbers come from: files, rule, code, log.
    """

    anchor: str
    title: str
    template: str
    content: Mapping[str, Any]
    links: Sequence[Link] = ()


def render(
    study: Mapping[str, Any],
    facts: Sequence[str],
    sections: Sequence[Section],
    lead: Sequence[Any] = (),
) -> str:
    """Return the page that holds the sections.

    Args:
        study: its name, `study`, and title.
        facts: lines below the title.
        sections: in the order of the page.
        lead: what was found, the page's first sentences, as `verdicts.lead` returns them.
    """
    page = environment().get_template("report.html.j2")
    title = study["title"] or study["study"]
    return page.render(title=title, name=study["study"], facts=facts, sections=sections, lead=lead) + "\n"


@cache
def environment() -> "Environment":
    """Return what makes pages of templates."""
    # Here, for verdicts as text need no page.
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("nclens.report", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals |= {
        "tex": mathml,
        "assignment": assignment,
        "papers": papers,
        "symbols": SYMBOLS,
        "closed_forms": CLOSED_FORMS,
        "formulas": FORMULAS,
        "regression": REGRESSION,
        "film_palettes": {"classes": CLASSES, "values": VALUES},
    }
    return environment


@dataclass(frozen=True)
class Column:
    """The head of a table's column: its heading, a detail in small type, whether it holds numbers, or a loss."""

    text: str
    detail: str = ""
    numeric: bool = False
    loss: Mapping[str, str] | None = None

    @property
    def label(self) -> str:
        """The heading as text, where a cell stands without its column."""
        return f"{self.loss['label'] if self.loss else self.text} {self.detail}".strip()


@dataclass(frozen=True)
class Cell:
    """A cell of a table: text, perhaps bold, a sort key, the loss (label and colour) or links it holds, a detail."""

    text: str
    value: float | None = None
    loss: Mapping[str, str] | None = None
    strong: bool = False
    links: Sequence[Link] = ()
    detail: str = ""

    @classmethod
    def of(cls, value: Any) -> Self:
        """Return the cell of a measured number; one that is not defined is sorted last."""
        known = value is not None and not pd.isna(value)
        return cls(number(value), float(value) if known else None)


@dataclass(frozen=True)
class Table:
    """A table of rows, each with a cell a column; a sortable one can be ordered by any of them."""

    columns: Sequence[Column]
    rows: Sequence[Sequence[Cell]]
    sortable: bool = False
