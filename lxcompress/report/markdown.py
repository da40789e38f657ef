"""Markdown as GitHub reads it: tables, code, and text in which no character has a special meaning."""

from __future__ import annotations

import re
from collections.abc import Sequence

SPECIAL = re.compile(r"([\\`*_\[\]|~#$])")


def escape(words: str) -> str:
    """Return text from data on one line, so that nothing in it opens a tag, a link, a cell or an emphasis."""
    plain = " ".join(words.split()).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return SPECIAL.sub(r"\\\1", plain)


def code(words: str) -> str:
    """Return text as a code span, whatever backticks and lines it holds."""
    plain = " ".join(words.split())
    fence = "`" * (1 + max((len(run) for run in re.findall("`+", plain)), default=0))
    pad = " " if plain.startswith("`") or plain.endswith("`") else ""
    return f"{fence}{pad}{plain}{pad}{fence}"


def table(head: Sequence[str], lines: Sequence[Sequence[str]], *, first_texts: int) -> str:
    """Return a table of cells that are Markdown already; all but the first columns are aligned to the right."""
    rule = ["---" if index < first_texts else "---:" for index in range(len(head))]
    return "\n".join("| " + " | ".join(line) + " |" for line in (head, rule, *lines))
