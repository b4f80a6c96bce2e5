"""What the site's Markdown needs beyond its standard extensions: MathML, tables of docstrings, doctests, root links.

What only the site shows is in `<!-- site: ... -->`: links to what is published there and is not in the repository.
A Markdown extension, named in zensical.toml and found by `PYTHONPATH=docs/tools`.
"""

import html
import re
import unicodedata
from contextlib import suppress
from typing import Any

from latex2mathml.converter import convert
from markdown import Markdown
from markdown.extensions import Extension
from markdown.postprocessors import Postprocessor
from markdown.preprocessors import Preprocessor

FORMULA = re.compile(r'<(span|div) class="arithmatex">\\[(\[](.*?)\\[)\]]</\1>', re.DOTALL)
BAR = re.compile(r'<mo(?: stretchy="false")?>&#x0007C;</mo>')
STYLED = re.compile(r'<(m[in]) mathvariant="(bold|double-struck|script)">(.)</\1>')
PRIME = re.compile(r"<msup>(<m[in]>[^<]+</m[in]>)<mi>&#x02032;</mi></msup>")  # a raised sign, raised again, is lost
DISPLAY = r"\displaystyle "
TEXTTT = re.compile(r"\\texttt\{[^}]*\}")
INSIDE = re.compile(r"(?<=\S\n)([ \t]+)\$\$(.+?)\$\$", re.DOTALL)
MATH_ROLE = re.compile(r":math:`([^`]+)`")
DIRECTIVE = re.compile(r"^\.\. math::(.*(?:\n(?:[ \t]+\S.*)?)*)(?=\n\S|\Z)", re.MULTILINE)
ROLE = re.compile(r":(?:func|class|meth|mod|data|attr):`~?")
ROOT_PAGE = re.compile(r"\]\((CONTRIBUTING|CHANGELOG)\.md")
CODE_OR_MATH = re.compile(r"(`+.*?`+|\$[^$]+\$)")
BARE_PIPE = re.compile(r"(?<=\S)(?<!\\)\||\|(?=[^\s|])")
SITE_ONLY = re.compile(r"<!-- site: (.*?) -->")
FENCE = re.compile(r"\s*(```+|~~~+)")


class MathML(Postprocessor):
    """Formulas become MathML when the site is built, so that no reader needs a script or a network."""

    def run(self, text: str) -> str:
        """Replace what arithmatex marked."""
        return FORMULA.sub(self._convert, text)

    @staticmethod
    def _convert(match: re.Match[str]) -> str:
        tex = html.unescape(match[2]).strip()
        block = match[1] == "div" or tex.startswith(DISPLAY)
        tex = TEXTTT.sub(lambda name: name[0].replace(r"\_", "_"), tex.removeprefix(DISPLAY))
        formula = convert(tex, display="block" if block else "inline")
        formula = BAR.sub('<mo stretchy="false" lspace="0" rspace="0">|</mo>', formula)
        formula = STYLED.sub(lambda part: f"<{part[1]}>{_styled(part[3], part[2])}</{part[1]}>", formula)
        return PRIME.sub(r'<mrow>\1<mo lspace="0" rspace="0">′</mo></mrow>', formula)


def _styled(letter: str, variant: str) -> str:
    """Return a letter in a style by its code point: browsers ignore all values of `mathvariant` but one."""
    name = unicodedata.name(letter).replace("LATIN ", "").replace(" LETTER", "")
    style = variant.replace("-", " ").upper() if variant != "double-struck" else "DOUBLE-STRUCK"
    for full in (f"MATHEMATICAL {style} {name}", f"{style} {name}"):
        with suppress(KeyError):
            return unicodedata.lookup(full)
    return letter


class Lines(Preprocessor):
    """Lines outside fences: norms in tables, doctests, roles, and links of the pages in the repository's root."""

    def run(self, lines: list[str]) -> list[str]:
        """Rewrite the lines of one page or docstring."""
        # A formula of its own line inside a list item is part of a paragraph, where arithmatex knows no $$.
        text = INSIDE.sub(lambda match: f"{match[1]}${DISPLAY}{match[2].strip()}$", "\n".join(lines))
        text = DIRECTIVE.sub(lambda match: "$$\n" + " ".join(match[1].split()) + "\n$$\n", MATH_ROLE.sub(r"$\1$", text))
        lines = text.split("\n")
        done: list[str] = []
        fence, doctest = "", False
        for line in lines:
            if doctest and not line.strip():
                done.append("```")
                doctest = False
            elif not fence and not doctest and line.startswith(">>> "):
                done.append("```pycon")
                doctest = True
            mark = FENCE.match(line)
            if mark and not doctest:
                fence = "" if fence and mark[1].startswith(fence) else fence or mark[1]
            done.append(line if fence or doctest else _links(_pipes(ROLE.sub("`", line))))
        return [*done, "```"] if doctest else done


def _pipes(line: str) -> str:
    """In a table, a pipe that touches a formula is a norm's: | |W|_F | has one cell."""
    row = line.strip()
    if not (row.startswith("| ") and row.endswith(" |")):
        return line
    inner = "".join(part if part[:1] in "`$" else BARE_PIPE.sub(r"\\|", part) for part in CODE_OR_MATH.split(row[1:-1]))
    return f"|{inner}|"


def _links(line: str) -> str:
    """README.md, CONTRIBUTING.md and CHANGELOG.md are included in pages of docs/, which they name from the root."""
    line = SITE_ONLY.sub(r"\1", line).replace("](docs/", "](")
    return ROOT_PAGE.sub(lambda match: f"]({match[1].lower()}.md", line)


class SiteMarkdown(Extension):
    """The extension."""

    def extendMarkdown(self, md: Markdown) -> None:
        """Register after pymdownx.snippets (32) and before the fences (25); after raw HTML (30) was put back."""
        md.preprocessors.register(Lines(md), "nclens-lines", 31)
        md.postprocessors.register(MathML(md), "nclens-mathml", 1)


def makeExtension(**options: Any) -> SiteMarkdown:
    """Return the extension, as Markdown looks for it."""
    return SiteMarkdown(**options)
