"""Ids of questions and images. An id is a number or a text, and two files may disagree about which."""

from __future__ import annotations

from typing import Any, TypeGuard

from lxcompress.text import shorten


def is_id(value: Any) -> TypeGuard[int | str]:
    """Return whether `value` can be the id of a question or an image: an int or a str, but not a bool."""
    return type(value) is int or type(value) is str


def name_id(value: Any) -> str:
    """Return an id as JSON writes it, which shows its type: 5 (a number) or "5" (a text)."""
    return shorten(value)


def explain_types(given: Any, known: Any) -> str:
    """Return a hint for an error message if `given` and `known`, ids of two files, have different types.

    If they have the same type, return an empty text.
    """
    if type(given) is type(known):
        return ""
    names = {int: "a number", str: "a text"}
    kinds = [names.get(type(value), "neither a number nor a text") for value in (given, known)]
    return f"; {name_id(given)} is {kinds[0]}, and {name_id(known)} in the other file is {kinds[1]}: write both alike"
