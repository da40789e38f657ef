"""Ids of questions and images: numbers or texts, and what is said where the two are confused."""

from __future__ import annotations

from typing import Any

from lxcompress.text import shorten


def is_id(value: Any) -> bool:
    """Whether `value` can name a question or an image; true and false cannot."""
    return type(value) is int or type(value) is str


def name_id(value: Any) -> str:
    """An id with its type where a text could be taken for a number: 5, or "5"."""
    return shorten(value)


def explain_types(given: Any, known: Any) -> str:
    """What to say of two ids that are not found in each other's file because of their types; else nothing."""
    if type(given) is type(known):
        return ""
    names = {int: "a number", str: "a text"}
    kinds = [names.get(type(value), "neither a number nor a text") for value in (given, known)]
    return f"; {name_id(given)} is {kinds[0]} here, and {name_id(known)} is {kinds[1]} there: write both alike"
