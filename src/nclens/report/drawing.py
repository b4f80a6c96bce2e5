"""A figure's SVG as part of the page: colours for light and dark, unique names, its parts for narrow screens."""

import colorsys
import html
import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any
from xml.etree import ElementTree
from xml.etree.ElementTree import Element

SVG = "{http://www.w3.org/2000/svg}"
XLINK = "{http://www.w3.org/1999/xlink}"
DARK = "#1c2026"
"""The ground of a figure on a dark page, `--card` of the style sheet; on a light one it is white."""
CONTRAST = 4.5
"""The least contrast with the ground of text, and on a dark page of marks too: level AA of WCAG 2.2."""
WHITE, LIGHTEST = 1.0, 0.91
"""Lightness of the lightest grey on a light page, and of the one that black becomes on a dark page."""

_COLOUR = re.compile(r"#[0-9a-fA-F]{6}\b")
_REFERENCE = re.compile(r"url\(#([^)]+)\)")


@dataclass(frozen=True)
class Picture:
    """A figure as a file of `nclens.figures.svg` holds it.

    Attributes:
        root: the parsed SVG.
        finding: what it shows.
        notes: sentences.
        size: width and height without the notes, in points.
        parts: what is shown below each other where the page is narrow.
    """

    root: Element
    finding: str
    notes: tuple[str, ...]
    size: tuple[float, float]
    parts: tuple[dict[str, Any], ...]


def picture(svg: bytes) -> Picture:
    """Return a parsed figure.

    Raises:
        ValueError: the bytes are not a whole SVG of a figure.
    """
    try:
        root = ElementTree.fromstring(svg)
        content = json.loads(root.findtext(f"{SVG}metadata") or "")
        width, height = content["size"]
        return Picture(
            root, root.findtext(f"{SVG}desc") or "", tuple(content["notes"]), (width, height), tuple(content["parts"])
        )
    except (ElementTree.ParseError, ValueError, KeyError, TypeError):
        raise ValueError("the image is not a whole SVG of a figure") from None


@dataclass
class Styles:
    """The looks of all figures of a page, each written once: declarations -> name of the class."""

    names: dict[str, str] = field(default_factory=dict)

    def name(self, declarations: str) -> str:
        """Return the class of some declarations."""
        return self.names.setdefault(declarations, f"d{len(self.names)}")

    def rules(self, known: int) -> str:
        """Return the rules that were added after the first `known`."""
        return "".join(f".{name}{{{text}}}" for text, name in list(self.names.items())[known:])


def inline(drawn: Picture, prefix: str, alt: str, styles: Styles) -> str:
    """Return the HTML of a figure: the whole, and its parts, which a narrow screen shows instead.

    Args:
        drawn: the figure.
        prefix: opens every id, for they are unique in a page.
        alt: what the figure shows, in words.
        styles: of the page; those that the figure adds are in its HTML.
    """
    known = len(styles.names)
    used = {name for element in drawn.root.iter() for name in _references(element)}
    used |= {piece["group"] for part in drawn.parts for piece in part["pieces"]}
    root = Element("g")
    root.extend(_copied(drawn.root, _Look(prefix, frozenset(used), styles)))
    body = ElementTree.tostring(root, encoding="unicode")
    width, height = drawn.size
    parts = "".join(_part(part, prefix) for part in drawn.parts)
    rules = styles.rules(known)
    return (
        (f"<style>{rules}</style>" if rules else "")
        + f'<svg class="whole" viewBox="0 0 {width:g} {height:g}" style="--w:{width:g}" role="img" '
        f'aria-label="{html.escape(alt)}">{body}</svg><div class="parts" aria-hidden="true">{parts}</div>'
    )


def _part(part: dict[str, Any], prefix: str) -> str:
    width, height = part["size"]
    pieces = []
    for piece in part["pieces"]:
        x, y, w, h = piece["from"]
        left, top = piece["at"]
        pieces.append(
            f'<svg x="{left:g}" y="{top:g}" width="{w:g}" height="{h:g}" viewBox="{x:g} {y:g} {w:g} {h:g}">'
            f'<use href="#{prefix}{piece["group"]}"/></svg>'
        )
    return (
        f'<svg class="{part["kind"]}" viewBox="0 0 {width:g} {height:g}" style="--w:{width:g}">{"".join(pieces)}</svg>'
    )


# --- elements -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Look:
    """How elements are copied: the prefix of ids, those that are referred to, the styles, and what colours are of."""

    prefix: str
    used: frozenset[str]
    styles: Styles
    kind: str = "mark"
    fixed: bool = False


def _references(element: Element) -> Iterator[str]:
    for name, value in element.attrib.items():
        if name.endswith("href") and value.startswith("#"):
            yield value[1:]
        yield from _REFERENCE.findall(value)


def _copied(parent: Iterable[Element], look: _Look) -> Iterator[Element]:
    """Yield the children without what the page has no use for: other names, notes, empty groups."""
    for child in parent:
        tag, name = child.tag.removeprefix(SVG), child.get("id", "")
        if tag in ("metadata", "desc", "style", "title") or name == "patch_1":
            continue
        if name == "notes":  # other texts use the glyphs that they define
            yield from (made for defined in child.iter(f"{SVG}defs") for made in _copied([defined], look))
            continue
        own = look
        if name.startswith("text_"):
            own = _Look(look.prefix, look.used, look.styles, "text", look.fixed)
        if name.startswith("fixed"):
            own = _Look(look.prefix, look.used, look.styles, look.kind, True)
        attributes = dict(_attributes(child, "text" if tag == "text" else own.kind, own))
        children = list(_copied(child, own))
        if tag == "g" and not attributes:
            yield from children
        elif children or tag != "g":
            made = Element(tag, attributes)
            made.text = child.text if tag in ("text", "tspan") else None
            made.extend(children)
            yield made


def _attributes(element: Element, kind: str, look: _Look) -> Iterator[tuple[str, str]]:
    for key, value in element.attrib.items():
        name = key.removeprefix(XLINK)
        if name == "id":
            if value in look.used:
                yield "id", look.prefix + value
        elif name == "style":
            if declared := _declarations(value, kind, look.fixed):
                yield "class", look.styles.name(declared)
        elif name == "href" and value.startswith("#"):
            yield "href", f"#{look.prefix}{value[1:]}"
        elif name == "transform" and re.fullmatch(r"rotate\(-?0\b[^)]*\)", value):
            continue  # upright text
        else:
            yield name, _REFERENCE.sub(lambda found: f"url(#{look.prefix}{found[1]})", value)


def _declarations(style: str, kind: str, fixed: bool) -> str:
    """Return a style in the font of the page, with colours for light and dark grounds."""
    kept = []
    for declaration in filter(None, (text.strip() for text in style.split(";"))):
        name, _, value = (text.strip() for text in declaration.partition(":"))
        if name in ("font-family", "stroke-linejoin", "stroke-linecap", "stroke-miterlimit"):
            continue
        if _COLOUR.fullmatch(value) and not fixed:
            kept.append(f"{name}:{on_light(value, kind)}")
            kept.append(f"{name}:light-dark({on_light(value, kind)},{on_dark(value, kind)})")
        else:
            kept.append(f"{name}:{value}")
    return ";".join(kept)


# --- colours --------------------------------------------------------------------------------------------------------


def on_light(colour: str, kind: str = "mark") -> str:
    """Return a colour as it is on white: text darker where its contrast is less than 4.5.

    >>> on_light("#D55E00"), on_light("#D55E00", "text"), on_light("#ffffff", "text")
    ('#d55e00', '#c15500', '#ffffff')
    """
    colour = colour.lower()
    # White text is on a dark cell.
    return colour if kind == "mark" or colour == "#ffffff" else _until(colour, "#ffffff", CONTRAST, -0.01)


def on_dark(colour: str, kind: str = "mark") -> str:
    """Return a colour as it is on a dark page: greys and pale tints turned over, others lighter where they must be.

    >>> on_dark("#ffffff"), on_dark("#222222"), on_dark("#E69F00"), on_dark("#440154")
    ('#1c2026', '#cecece', '#e69f00', '#d739fd')
    """
    colour = colour.lower()
    if colour == "#ffffff":
        return DARK
    hue, light, saturation = colorsys.rgb_to_hls(*_channels(colour))
    red, green, blue = _channels(colour)
    grey = max(red, green, blue) - min(red, green, blue) < 0.06
    if grey or light > 0.8:
        darkest = colorsys.rgb_to_hls(*_channels(DARK))[1]
        turned = LIGHTEST - light * (LIGHTEST - darkest)
        colour = _hex(colorsys.hls_to_rgb(hue, turned, 0.0 if grey else min(saturation, 0.35)))
        return _until(colour, DARK, CONTRAST, 0.01) if kind == "text" else colour
    return _until(colour, DARK, CONTRAST, 0.01)


def contrast(colour: str, ground: str) -> float:
    """Return the contrast of two colours by WCAG, 1 to 21.

    >>> contrast("#000000", "#ffffff"), round(contrast("#D55E00", "#ffffff"), 2)
    (21.0, 3.87)
    """
    lighter, darker = sorted((_luminance(colour), _luminance(ground)), reverse=True)
    return (lighter + 0.05) / (darker + 0.05)


def _luminance(colour: str) -> float:
    linear = [value / 12.92 if value <= 0.04045 else ((value + 0.055) / 1.055) ** 2.4 for value in _channels(colour)]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def _until(colour: str, ground: str, least: float, step: float) -> str:
    """Return the first colour of the same hue, step by step lighter or darker, whose contrast suffices."""
    hue, light, saturation = colorsys.rgb_to_hls(*_channels(colour))
    while contrast(colour, ground) < least and 0 < light < 1:
        light = min(max(light + step, 0.0), 1.0)
        colour = _hex(colorsys.hls_to_rgb(hue, light, saturation))
    return colour


def _channels(colour: str) -> tuple[float, float, float]:
    red, green, blue = (int(colour[start : start + 2], 16) / 255 for start in (1, 3, 5))
    return red, green, blue


def _hex(channels: tuple[float, float, float]) -> str:
    return "#" + "".join(f"{round(255 * value):02x}" for value in channels)
