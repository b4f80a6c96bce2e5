r"""The file that a document reads: `\nclens` for numbers, `\nclensfigure` and `\nclenscaption` for figures.

Numbers of the last epoch and of verdicts are in one file; those of other epochs in one a loss, which is read when the
document first names one of them: pdfLaTeX has no room for all.
"""

from collections.abc import Iterable, Mapping

from nclens.report.latex import escaped, math
from nclens.report.quotes import Quote

HEAD = "% Made by `nclens export`, which replaces this file when it runs again.\n"

_MACROS = r"""%
% Where the document is in another folder: \newcommand{\nclensfolder}{paper/} and then \input{paper/nclens}
\RequirePackage{array}
\RequirePackage{booktabs}
\RequirePackage{graphicx}
\providecommand*{\nclensfolder}{}
\makeatletter
\edef\nclens@experiment{\detokenize{@EXPERIMENT@}}
\newcommand*{\nclens@set}[2]{\expandafter\gdef\csname nclens@\detokenize{#1}\endcsname{#2}}
\newcommand*{\nclens@file}[2]{\expandafter\gdef\csname nclens@file@\detokenize{#1}\endcsname{#2}}
% The name of what is at a path, of a kind: nothing for a number, caption: or file:; empty where nothing is.
\newcommand*{\nclens@look}[2]{%
  \def\nclens@name{}%
  \edef\nclens@path{\detokenize{#2}}%
  \nclens@try{#1\nclens@path}%
  \nclens@try{#1\nclens@experiment\nclens@path}}
\newcommand*{\nclens@try}[1]{\ifcsname nclens@#1\endcsname\edef\nclens@name{nclens@#1}\fi}
% Reads the numbers of a loss, once.
\newcommand*{\nclens@read}[1]{\edef\nclens@whole{#1//}\expandafter\nclens@part\nclens@whole\@nil}
\def\nclens@part#1/#2/#3\@nil{%
  \ifcsname nclens@file@#1/#2\endcsname
    \edef\nclens@this{\csname nclens@file@#1/#2\endcsname}%
    \expandafter\global\expandafter\let\csname nclens@file@#1/#2\endcsname\@undefined
    \begingroup
      \endlinechar=-1
      \def\N##1##2{\expandafter\gdef\csname nclens@#1/#2/\detokenize{##1}\endcsname{##2}}%
      \input{\nclensfolder numbers/\nclens@this}%
    \endgroup
  \fi}
\newcommand*{\nclens@show}[2]{%
  \ifx\nclens@name\@empty
    \PackageError{nclens}{There is no #1 `\nclens@path': \nclensfolder #2}{Correct the path, or export again.}%
    \textbf{??}%
  \else
    \csname\nclens@name\endcsname
  \fi}
\DeclareRobustCommand*{\nclens}[1]{%
  \nclens@look{}{#1}%
  \ifx\nclens@name\@empty
    \nclens@read\nclens@path
    \nclens@read{\nclens@experiment\nclens@path}%
    \nclens@look{}{#1}%
  \fi
  \nclens@show{number}{numbers.csv has the paths}}
\DeclareRobustCommand*{\nclenscaption}[1]{%
  \nclens@look{caption:}{#1}%
  \nclens@show{figure}{nclens.tex has the figures}}
\DeclareRobustCommand*{\nclensfigure}[2][]{%
  \nclens@look{file:}{#2}%
  \ifx\nclens@name\@empty
    \nclens@show{figure}{nclens.tex has the figures}%
  \else
    \includegraphics[#1]{\nclensfolder figures/\csname\nclens@name\endcsname}%
  \fi}
"""


def macro_file(
    experiments: Iterable[str], losses: Iterable[tuple[str, str]], captions: Mapping[tuple[str, str], str]
) -> str:
    """Return the file that the document reads, with the captions.

    Args:
        experiments: names of the study's.
        losses: (experiment, loss) of each file of numbers.
        captions: (experiment, stem) of each figure -> its caption, LaTeX already.
    """
    named = list(experiments)
    alone = f"{named[0]}/" if len(named) == 1 else ""
    lines = [f"\\nclens@file{{{experiment}/{loss}}}{{{file_of(experiment, loss)}}}" for experiment, loss in losses]
    for (experiment, stem), caption in captions.items():
        lines.append(f"\\nclens@set{{file:{experiment}/{stem}}}{{{experiment}_{stem}.pdf}}")
        lines.append(f"\\nclens@set{{caption:{experiment}/{stem}}}{{{caption}}}")
    lines += [r"\input{\nclensfolder numbers/last}", r"\makeatother"]
    return HEAD + _MACROS.replace("@EXPERIMENT@", alone) + "\n".join(lines) + "\n"


def file_of(experiment: str, loss: str) -> str:
    """Return the name of the file with a loss's numbers; no name of an experiment or loss has a colon or a space."""
    return f"{experiment}={loss}.tex"


def numbers_file(quotes: Iterable[Quote], prefix: str = "") -> str:
    """Return a file of numbers; those of a loss by their paths below it."""
    name = r"\N" if prefix else r"\nclens@set"
    return HEAD + "".join(f"{name}{{{quote.path.removeprefix(prefix)}}}{{{value(quote)}}}\n" for quote in quotes)


def value(quote: Quote) -> str:
    """Return the text of a number as LaTeX; a unit or a verdict stays text."""
    return escaped(quote.text) if quote.path.endswith(("/unit", "/verdict")) else math(quote.text)
