"""The JSON schema of a recipe, by which editors complete keys, show what they mean and mark mistakes."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from typing import Any

from pydantic import BaseModel

from lxcompress.recipe.methods import FirstStep, Method
from lxcompress.recipe.recipe import Recipe

DIALECT = "https://json-schema.org/draft/2020-12/schema"


def recipe_schema() -> dict[str, Any]:
    """Return the JSON schema of a recipe.

    The description of a key is what the docstring of its section says about it: the sentences that name the key.
    """
    schema = {"$schema": DIALECT, **Recipe.model_json_schema()}
    sections = {section.__name__: section for section in list_sections(Recipe)}
    for name, described in {"Recipe": schema, **schema["$defs"]}.items():
        for key, field in described.get("properties", {}).items():
            field.setdefault("description", describe_key(sections[name], key))
    return schema


def list_sections(section: type[BaseModel]) -> Iterator[type[BaseModel]]:
    """Yield `section`, and every section that its fields contain."""
    yield section
    for field in section.model_fields.values():
        for kind in _find_classes(field.annotation):
            yield from list_sections(kind)


def describe_key(section: type[BaseModel], key: str) -> str:
    """Return the sentences about `key` in the docstring of a section, or in that of a class that has the same keys.

    Return an empty text if there are none.
    """
    if key == "kind":
        return "The kind of the data set."
    same = (Method,) if section is FirstStep else ()
    for kind in (*section.__mro__, *same):
        if kind is not BaseModel and issubclass(kind, BaseModel):
            text = " ".join(inspect.cleandoc(kind.__doc__ or "").split())
            sentences = [sentence for sentence in re.split(r"(?<=\.) (?=[A-Z`])", text) if f"`{key}`" in sentence]
            if sentences:
                return " ".join(sentences)
    return ""


def _find_classes(annotation: Any) -> Iterator[type[BaseModel]]:
    """Yield the classes of sections in the type of a field, such as that of the entries of a list."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for part in getattr(annotation, "__args__", ()):
        yield from _find_classes(part)
