"""LaTeX as MathML, which browsers render without a script."""

from functools import cache

from markupsafe import Markup

_CHANGES = {
    ' xmlns="http://www.w3.org/1998/Math/MathML"': "",
    ' display="inline"': "",
    # Browsers know MathML Core: `mathvariant` gives no script or bold, bars and slashes get the spaces of operators.
    '<mi mathvariant="script">L</mi>': "<mi>ℒ</mi>",
    '<mn mathvariant="bold">1</mn>': "<mn>𝟏</mn>",
    '<mo stretchy="false">&#x0007C;</mo>': '<mo stretchy="false" lspace="0" rspace="0">|</mo>',
    "<mo>&#x0002F;</mo>": '<mo lspace="0" rspace="0">/</mo>',
    # What latex2mathml sets otherwise than LaTeX.
    "<mi>&#x000B1;</mi>": "<mo>±</mo>",
    "<mi>log</mi><mi>": '<mi>log</mi><mspace width="0.167em"/><mi>',
}
"""Replacements in the MathML of latex2mathml."""


@cache
def mathml(latex: str, *, block: bool = False) -> Markup:
    """Return a formula as a `math` element, in the line or, as a block, on a line of its own."""
    try:
        from latex2mathml.converter import convert  # here, for verdicts as text need no formulas
    except ModuleNotFoundError:
        raise ImportError(
            "formulas need the package latex2mathml, which is not installed: pip install 'nclens[workflow]'"
        ) from None
    text = convert(latex, display="block" if block else "inline")
    for before, after in _CHANGES.items():
        text = text.replace(before, after)
    return Markup(text)


def assignment(latex: str, value: str) -> Markup:
    """Return a symbol with its value, which is text, as one `math` element."""
    return mathml(latex).replace("</mrow></math>", Markup("<mo>=</mo><mn>{}</mn></mrow></math>").format(value))
