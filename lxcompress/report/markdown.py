"""Write Markdown for GitHub: tables, code, and text in which no character has a special meaning."""

from __future__ import annotations

import re
from collections.abc import Sequence

SPECIAL = re.compile(r"([\\`*_\[\]|~#$])")
RIGHT_TO_LEFT = re.compile("[\u0590-\u08ff\ufb1d-\ufdff\ufe70-\ufefc]")
"""Letters of Hebrew, Arabic and Persian."""
ISOLATED = '<span dir="auto">{}</span>'
"""Text whose direction is its own and does not change that of the text around it; GitHub keeps this element."""


def escape(words: str) -> str:
    """Return text on one line in which nothing opens a tag, a link, a table cell or an emphasis.

    Text with letters of a right-to-left script is isolated, so that numbers around that text stay in their order.
    """
    plain = " ".join(words.split()).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    escaped = SPECIAL.sub(r"\\\1", plain)
    return ISOLATED.format(escaped) if RIGHT_TO_LEFT.search(plain) else escaped


def code(words: str) -> str:
    """Return text on one line as a code span; it may contain backticks."""
    plain = " ".join(words.split())
    fence = "`" * (1 + max((len(run) for run in re.findall("`+", plain)), default=0))
    pad = " " if plain.startswith("`") or plain.endswith("`") else ""
    return f"{fence}{pad}{plain}{pad}{fence}"


def table(head: Sequence[str], lines: Sequence[Sequence[str]], *, first_texts: int) -> str:
    """Return a table. Its cells are Markdown already. All but the first `first_texts` columns are aligned right."""
    rule = ["---" if index < first_texts else "---:" for index in range(len(head))]
    return "\n".join("| " + " | ".join(line) + " |" for line in (head, rule, *lines))
