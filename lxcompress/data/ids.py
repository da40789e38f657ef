"""Ids of questions and images, which are numbers or texts, and the error for files that mix the two."""

from __future__ import annotations

from typing import Any

from lxcompress.text import shorten


def is_id(value: Any) -> bool:
    """Return whether `value` can be the id of a question or an image; true and false cannot."""
    return type(value) is int or type(value) is str


def name_id(value: Any) -> str:
    """Return an id as JSON writes it, so that its type is seen: 5, or "5"."""
    return shorten(value)


def explain_types(given: Any, known: Any) -> str:
    """Return a hint if an id of one file is a number and an id of the other file is a text; else an empty text."""
    if type(given) is type(known):
        return ""
    names = {int: "a number", str: "a text"}
    kinds = [names.get(type(value), "neither a number nor a text") for value in (given, known)]
    return f"; {name_id(given)} is {kinds[0]}, and {name_id(known)} in the other file is {kinds[1]}: write both alike"
