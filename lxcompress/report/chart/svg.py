"""Convert a drawing into an SVG element for a page: no identifiers, no style sheet, no font, the page's colours."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from collections.abc import Mapping

from markupsafe import Markup

from lxcompress.report.chart.drawing import Drawing, clean
from lxcompress.report.chart.style import CLASS, NAMES

NUMBER = re.compile(r"-?\d+\.\d+")
SIZE = re.compile(r"([\d.]+)px")
WEIGHT = re.compile(r"\b(bold|[1-9]\d\d)\b")


def to_markup(drawing: Drawing, description: str | None) -> Markup:
    """Return the drawing as an SVG element; without a description, screen readers do not see the element."""
    drawn = ET.fromstring(drawing.svg())
    shapes = {node.get("id"): node for node in drawn.iter() if _tag(node) == "path" and node.get("id")}
    about = {"role": "img", "aria-label": clean(description)} if description else {"aria-hidden": "true"}
    page = ET.Element(
        "svg",
        {
            "class": "chart" if description else "key",
            "viewBox": f"0 0 {drawing.width} {drawing.height}",
            "xmlns": "http://www.w3.org/2000/svg",
            **about,
        },
    )
    _flatten(drawn, page, shapes=shapes, tips=drawing.tips)
    return Markup(ET.tostring(page, encoding="unicode"))  # escaped by ElementTree


def _flatten(
    node: ET.Element, out: ET.Element, *, shapes: Mapping[str | None, ET.Element], tips: Mapping[str, str]
) -> None:
    """Append to `out` the shapes in `node`, without identifiers; only shapes with a tooltip stay in a group."""
    for child in node:
        kind, name = _tag(child), child.get("id", "")
        if kind == "g" and name in tips:
            group = ET.SubElement(out, "g", {"class": "tip"})
            ET.SubElement(group, "title").text = tips[name]
            _flatten(child, group, shapes=shapes, tips=tips)
        elif kind == "g":
            known = len(out)
            _flatten(child, out, shapes=shapes, tips=tips)
            if name.startswith(CLASS):
                for drawn in out[known:]:
                    drawn.set("class", name.removeprefix(CLASS))
        elif kind == "use":
            shape = shapes[next(value for key, value in child.items() if key.endswith("href"))[1:]]
            moved = {"transform": f"translate({child.get('x')} {child.get('y')})"}
            style = f"{shape.get('style', '')}; {child.get('style', '')}"
            _append(out, "path", {"d": shape.get("d", ""), **moved, "style": style})
        elif kind == "path" and not _is_invisible(child):
            _append(out, "path", {key: child.attrib[key] for key in ("d", "style") if key in child.attrib})
        elif kind == "text":
            kept = {key: value for key, value in child.items() if key in ("x", "y", "style")}
            _append(out, "text", kept).text = child.text


def _append(out: ET.Element, kind: str, attributes: Mapping[str, str]) -> ET.Element:
    """Append a shape with shortened numbers and the colours and font of the page to `out`; return the shape."""
    short = {key: NUMBER.sub(_shorten, value.replace("\n", " ").strip()) for key, value in attributes.items()}
    if "style" in short:
        short["style"] = _page_style(short["style"])
    return ET.SubElement(out, kind, short)


def _page_style(text: str) -> str:
    """Return a style that matplotlib wrote, with its colours and font replaced by those of the page."""
    pairs = [pair.partition(":") for pair in text.split(";") if pair.strip()]
    style: dict[str, str] = {}
    for key, value in ((key.strip(), value.strip()) for key, _, value in pairs):
        if key.startswith("font"):
            size, weight = SIZE.search(value), WEIGHT.search(value)
            style |= {"font-size": f"{size[1]}px"} if size else {}
            style |= {"font-weight": weight[1]} if weight else {}
        else:
            style[key] = NAMES.get(value, value)
    return ";".join(f"{key}:{value}" for key, value in style.items())


def _is_invisible(path: ET.Element) -> bool:
    """Return whether a path is a background that is not painted, or has no points."""
    return "id" in path.attrib or "style" not in path.attrib or path.get("style") == "fill: none" or not path.get("d")


def _shorten(found: re.Match[str]) -> str:
    """Return a number with four significant digits."""
    return f"{float(found[0]):.4g}"


def _tag(node: ET.Element) -> str:
    """Return the name of an element without its namespace."""
    return node.tag.rpartition("}")[2]
