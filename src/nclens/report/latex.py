r"""Tables, texts and references as LaTeX: for pdfLaTeX, XeLaTeX and LuaLaTeX, with booktabs and graphicx."""

import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from nclens.claims.papers import SOFTWARE, Paper, named_in
from nclens.report.effects import Effect
from nclens.report.page import Cell, Column, Table

MOST_COLUMNS = 4
"""The most columns of numbers side by side; a table with more continues below."""

LONGEST = 32
"""Characters of a first cell beyond which the column wraps."""

_SPECIAL = {
    **{character: f"\\{character}" for character in "{}$&#%_"},
    **{"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", '"': "''"},
    **{"<": r"\ensuremath{<}", ">": r"\ensuremath{>}", "|": r"\ensuremath{|}", "\N{NO-BREAK SPACE}": "~"},
    **{"–": "--", "—": "---", "‘": "`", "’": "'", "“": "``", "”": "''", "…": r"\ldots{}", "\t": " ", "\n": " "},
}
_SYMBOLS = {
    **{"−": "-", "×": r"\times ", "±": r"\pm ", "∞": r"\infty ", "≤": r"\le ", "≥": r"\ge ", "≠": r"\ne "},
    **{"≈": r"\approx ", "→": r"\to ", "·": r"\cdot ", "√": r"\surd ", "‖": r"\Vert ", "∈": r"\in ", "ℓ": r"\ell "},
    **{"∑": r"\sum ", "∂": r"\partial ", "°": r"^{\circ}", "ϵ": r"\epsilon ", "ε": r"\varepsilon ", "µ": r"\mu "},
    **{"φ": r"\varphi ", "ϕ": r"\phi ", "ς": r"\varsigma ", "ϑ": r"\vartheta ", "ο": "o"},
}
_NAMES = "alpha beta gamma delta zeta eta theta iota kappa lambda mu nu xi pi rho sigma tau upsilon chi psi omega"
_CAPITALS = "Gamma Delta Theta Lambda Xi Pi Sigma Upsilon Phi Psi Omega"
for _name in (*_NAMES.split(), *_CAPITALS.split()):
    _case = "CAPITAL" if _name[0].isupper() else "SMALL"
    _letter = unicodedata.lookup(f"GREEK {_case} LETTER {_name.replace('lambda', 'lamda').replace('Lambda', 'Lamda')}")
    _SYMBOLS.setdefault(_letter, f"\\{_name} ")
_RAISED = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁻⁺", "0123456789-+")
_LOWERED = str.maketrans("₀₁₂₃₄₅₆₇₈₉", "0123456789")


def symbols(text: str) -> str:
    r"""Return a number or an interval of the page as the inside of a formula.

    >>> symbols("(1.440 ± 0.068)×10⁻⁵"), symbols("[−0.5, ∞)")
    ('(1.440 \\pm 0.068)\\times 10^{-5}', '[-0.5, \\infty )')
    """
    text = re.sub("[⁰¹²³⁴⁵⁶⁷⁸⁹⁻⁺]+", lambda found: f"^{{{found[0].translate(_RAISED)}}}", text)
    text = re.sub("[₀₁₂₃₄₅₆₇₈₉]+", lambda found: f"_{{{found[0].translate(_LOWERED)}}}", text)
    return re.sub(" +", " ", "".join(_SYMBOLS.get(character, character) for character in text))


def math(text: str, *, strong: bool = False) -> str:
    r"""Return a number of the page as a formula, bold where it is strong; a word or a dash stays text.

    >>> math("−0.35"), math("0.50 ± 0.01", strong=True), math("never"), math("–")
    ('$-0.35$', '$\\mathbf{0.50 \\pm 0.01}$', 'never', '--')
    """
    if not any(character.isdigit() or character == "∞" for character in text):
        return escaped(text)
    return f"$\\mathbf{{{symbols(text)}}}$" if strong else f"${symbols(text)}$"


def escaped(text: str) -> str:
    r"""Return a text as LaTeX that shows it: special characters escaped, symbols and Greek letters as formulas.

    Letters with accents, and those of other scripts, stay as they are.

    >>> escaped("50% of a_b & #1"), escaped("λ ≥ 10⁻⁶, R²")
    ('50\\% of a\\_b \\& \\#1', '$\\lambda $ $\\ge $ 10$^{-6}$, R$^{2}$')
    """
    signs = "".join(map(re.escape, _SYMBOLS))
    parts = re.split(f"([{signs}⁰¹²³⁴⁵⁶⁷⁸⁹⁻⁺₀₁₂₃₄₅₆₇₈₉]+)", text)
    return "".join(
        f"${symbols(part)}$" if place % 2 else "".join(_SPECIAL.get(character, character) for character in part)
        for place, part in enumerate(parts)
    )


def labelled(text: str) -> str:
    r"""Return a label or a note, whose formulas between $ stay as they are; a $ that is none is written \$.

    >>> labelled(r"$\lambda$ = 5%"), labelled(r"\$5")
    ('$\\lambda$ = 5\\%', '\\$5')
    """
    parts = re.split(r"(?<!\\)\$", text)
    if len(parts) % 2 == 0:
        return escaped(text)
    return "".join(f"${part}$" if place % 2 else escaped(part.replace(r"\$", "$")) for place, part in enumerate(parts))


# --- tables ----------------------------------------------------------------------------------------------------------


def tabular(columns: str, rows: Iterable[Sequence[str]], head: Sequence[str]) -> str:
    """Return a table of cells that are LaTeX already, with the rules of booktabs."""
    return _tabular(columns, [(head, rows)])


def _tabular(columns: str, blocks: Iterable[tuple[Sequence[str], Iterable[Sequence[str]]]]) -> str:
    lines = [f"\\begin{{tabular}}{{@{{}}{columns}@{{}}}}", r"\toprule"]
    for place, (head, rows) in enumerate(blocks):
        lines += [r"\midrule"] * (place > 0) + [_row(head), r"\midrule", *map(_row, rows)]
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}"]) + "\n"


def _row(cells: Sequence[str]) -> str:
    return " & ".join(cells) + r" \\"


def table(content: Table) -> str:
    """Return a table of the page; one with many columns continues below, each part with its first column."""
    parts = _parts(len(content.columns), MOST_COLUMNS)
    width = len(parts[0])
    blocks = []
    for part in parts:
        head = [_heading(content.columns[place]) for place in (0, *part)]
        rows = [[_cell(row[0]), *(_cell(row[place], numeric=True) for place in part)] for row in content.rows]
        blocks.append((_padded(head, width), [_padded(row, width) for row in rows]))
    long = max(len(row[0].text) + len(row[0].detail) for row in content.rows) > LONGEST if content.rows else False
    return _tabular((_wrapped(0.38) if long else "l") + "r" * width, blocks)


def _wrapped(share: float) -> str:
    """Return a column of text that wraps, with its share of the line."""
    return rf">{{\raggedright\arraybackslash}}p{{{share:.2f}\linewidth}}"


def _parts(columns: int, most: int) -> list[range]:
    """Return the columns after the first, so many side by side."""
    return [range(start, min(start + most, columns)) for start in range(1, columns, most)]


def _padded(cells: Sequence[str], width: int) -> list[str]:
    return [*cells, *[""] * (width + 1 - len(cells))]


def _heading(column: Column) -> str:
    name = labelled(column.loss["label"]) if column.loss else escaped(column.text)
    return _with_detail(name, column.detail)


def _with_detail(text: str, detail: str) -> str:
    return f"{text} ({escaped(detail)})" if detail else text


def _cell(cell: Cell, numeric: bool = False) -> str:
    text = math(cell.text, strong=cell.strong) if numeric else escaped(cell.text)
    return _with_detail(labelled(cell.loss["label"]) if cell.loss else text, cell.detail)


def verdicts_table(judged: Sequence[Mapping[str, Any]], keys: Mapping[str, str]) -> str:
    """Return the verdicts as the page has them: paper and statement on lines of their own, then a row a comparison.

    Args:
        judged: the claims, as `nclens.report.verdicts.judged_claims` returns them.
        keys: number of a paper on arXiv -> its key in the bibliography.
    """
    apart = any(row["apart"] for claim in judged for row in claim["rows"])
    head = [*(["Experiment"] if apart else []), "Loss", r"Effect [95\% interval]", "Seeds", "Verdict"]
    lines, before = [], None
    for claim in judged:
        paper = "".join(part.text for part in claim["paper"])
        if paper and paper != before:
            cited = [keys[found.arxiv] for found in named_in([paper])]
            cite = f"~\\cite{{{','.join(cited)}}}" if cited else ""
            lines.append(_spanning(len(head), f"\\emph{{{escaped(paper)}}}{cite}", r"\addlinespace "))
        before = paper
        lines.append(_spanning(len(head), f"\\textbf{{{escaped(claim['id'])}}} {escaped(claim['statement'])}"))
        for row in claim["rows"]:
            cells = [escaped(row["apart"])] if apart else []
            against = f" against {labelled(row['baseline']['label'])}" if row["baseline"] else ""
            cells += [labelled(row["loss"]["label"]) + against, effect(row["effect"])]
            lines.append(_row([*cells, math(row["effect"].seeds), _verdict(row)]))
    columns = "@{}" + "l" * (len(head) - 3) + _wrapped(0.36) + "r" + _wrapped(0.2) + "@{}"
    body = "\n".join([f"\\begin{{tabular}}{{{columns}}}", r"\toprule", _row(head), r"\midrule", *lines])
    return f"{body}\n\\bottomrule\n\\end{{tabular}}\n"


def _verdict(row: Mapping[str, Any]) -> str:
    """Return a verdict, and why it is inconclusive."""
    reason = row["effect"].reason
    return f"{row['verdict']}: {escaped(reason)}" if reason else str(row["verdict"])


def _spanning(columns: int, text: str, before: str = "") -> str:
    return rf"{before}\multicolumn{{{columns}}}{{@{{}}p{{0.95\linewidth}}@{{}}}}{{{text}}} \\"


def effect(found: Effect) -> str:
    """Return value, interval and unit of an effect."""
    if not found.value:
        return escaped(found.numbers)
    return " ".join(filter(None, (math(found.value), found.interval and math(found.interval), escaped(found.unit))))


def settings_table(experiments: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return the settings of experiments, a row a setting; more than two experiments continue below.

    Args:
        experiments: their names, in the order of the columns.
        rows: a setting, and its value in each experiment.
    """
    lines, blocks = list(rows), []
    parts = _parts(len(experiments) + 1, 2)
    width = len(parts[0])
    for part in parts:
        head = ["Setting", *(escaped(experiments[place - 1]) for place in part)]
        own = [[labelled(line[0]), *(labelled(line[place]) for place in part)] for line in lines]
        shown = [line for line in own if any(line[1:])]
        blocks.append((_padded(head, width), [_padded(line, width) for line in shown]))
    return _tabular(_wrapped(0.3) + _wrapped(0.6 / width) * width, blocks)


# --- references ------------------------------------------------------------------------------------------------------


def key_of(paper: Paper) -> str:
    """Return the key of a paper in the bibliography: family name, year, first long word of the title.

    >>> from nclens.claims.papers import PAPERS
    >>> key_of(PAPERS["1906.02629"]), key_of(PAPERS["2402.03979"])
    ('muller2019when', 'guo2025cross')
    """
    plain = [
        unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode()
        for text in (paper.authors[0].split(",")[0], paper.title)
    ]
    word = next(word for word in re.findall(r"\w+", plain[1].lower()) if len(word) > 3 or word == "law")
    return re.sub(r"\W", "", plain[0].lower()) + str(paper.year) + word


def bibliography(papers: Iterable[Paper], version: str) -> str:
    """Return the references as BibTeX: this software, then the papers."""
    software = {"title": SOFTWARE["title"], "author": f"{{{SOFTWARE['author']}}}", "note": f"Version {version}"}
    entries = [_entry("misc", "nclens", software)]
    for paper in papers:
        venue = {"journal" if paper.journal else "booktitle": paper.venue} if paper.venue else {}
        fields = {"title": paper.title, "author": " and ".join(paper.authors), **venue, "year": str(paper.year)}
        fields |= {"eprint": paper.arxiv, "archiveprefix": "arXiv", "url": f"https://arxiv.org/abs/{paper.arxiv}"}
        kind = "misc" if not venue else "article" if paper.journal else "inproceedings"
        entries.append(_entry(kind, key_of(paper), fields | ({} if venue else {"note": f"arXiv:{paper.arxiv}"})))
    return "\n".join(entries)


_ACCENTS = {"\N{COMBINING DIAERESIS}": '"', "\N{COMBINING ACUTE ACCENT}": "'", "\N{COMBINING GRAVE ACCENT}": "`"}


def _entry(kind: str, key: str, fields: Mapping[str, str]) -> str:
    lines = [f"  {name} = {{{f'{{{value}}}' if name == 'title' else value}}}," for name, value in fields.items()]
    return f"@{kind}{{{key},\n{_accented(chr(10).join(lines))}\n}}\n"


def _accented(text: str) -> str:
    """Return a text whose accents are commands, for BibTeX sorts by bytes."""
    marks = "".join(_ACCENTS)
    plain = unicodedata.normalize("NFD", text)
    commands = re.sub(f"(.)([{marks}])", lambda found: f"{{\\{_ACCENTS[found[2]]}{found[1]}}}", plain)
    return unicodedata.normalize("NFC", commands)
