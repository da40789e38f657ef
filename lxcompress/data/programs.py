"""Programs: what a question about a scene asks, apart from its language, and the words of each language.

A program is drawn once; `ask_english` and persian.py's `ask_persian` put it into words. So both languages ask the same
questions about the same scenes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

from lxcompress.data.objects import ATTRIBUTES

Asked = Literal["exists", "count", "value", "compare-counts", "compare-values", "relation", "count-related"]
"""The kinds of questions. A question about a related object has the kind `value`, and a relation."""


@dataclass(frozen=True)
class Phrase:
    """A description of objects, such as 'small red thing' or 'metal cube': attribute -> index of the wanted value."""

    wanted: Mapping[str, int]

    def value(self, attribute: str) -> str | None:
        """Return the English word of an attribute, such as 'red'; None if the description leaves it open."""
        return ATTRIBUTES[attribute][self.wanted[attribute]] if attribute in self.wanted else None


@dataclass(frozen=True)
class QuestionProgram:
    """A question as a program: its kind, the objects that it describes, and the attribute that it asks for."""

    asked: Asked
    phrases: tuple[Phrase, ...]
    attribute: str | None = None
    relation: str | None = None
    comparison: Literal["more", "fewer"] | None = None


Ask = Callable[[QuestionProgram], str]
"""A function that puts a program into the words of one language."""


def ask_english(program: QuestionProgram) -> str:
    """Return the English question of a program."""
    first, *others = program.phrases
    other = _noun(others[0]) if others else ""
    match program.asked:
        case "exists":
            return f"is there a {_noun(first)}?"
        case "count":
            return f"how many {_noun(first)}s are there?"
        case "value":
            described = f"{_noun(first)} {program.relation} the {other}" if program.relation else _noun(first)
            if program.attribute == "material":
                return f"what is the {described} made of?"
            return f"what {program.attribute} is the {described}?"
        case "compare-counts":
            return f"are there {program.comparison} {_noun(first)}s than {other}s?"
        case "compare-values":
            is_material = program.attribute == "material"
            verb = "made of the same material as" if is_material else f"the same {program.attribute} as"
            return f"is the {_noun(first)} {verb} the {other}?"
        case "relation":
            return f"is the {_noun(first)} {program.relation} the {other}?"
        case "count-related":
            return f"how many {_noun(first)}s are {program.relation} the {other}?"


def _noun(phrase: Phrase) -> str:
    """Return the English words of a description in the singular, such as 'small red thing'."""
    words = [phrase.value(name) for name in ("size", "color", "material")]
    return " ".join([*(word for word in words if word), phrase.value("shape") or "thing"])
