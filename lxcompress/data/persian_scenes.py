"""The words of questions about scenes in Persian.

Grammar, as the module writes it:

- A noun comes before its adjectives: "مکعب فلزی قرمز کوچک", the cube of-metal red small; the order is the reverse of
  the English one. The ezafe that joins them is not written, except after a silent he ("کرهٔ قرمز") and after the plural
  ending ("مکعب‌های قرمز").
- A noun is singular after a numeral and after "چند" (how many), and plural after "تعداد" (the number of).
- The verb comes last. A yes/no question begins with "آیا". "یک" stands for the English "a".
"""

from __future__ import annotations

from lxcompress.data.objects import ANSWERS
from lxcompress.data.persian import PERSIAN_DIGITS, ZWNJ
from lxcompress.data.programs import Phrase, QuestionProgram

HAMZA_ABOVE = "\u0654"
"""The written ezafe after a silent he."""
NOUNS = {"cube": "مکعب", "sphere": "کره", "cylinder": "استوانه"}
THING = "جسم"
ADJECTIVES = {
    "gray": "خاکستری",
    "red": "قرمز",
    "blue": "آبی",
    "green": "سبز",
    "brown": f"قهوه{ZWNJ}ای",
    "purple": "بنفش",
    "cyan": f"فیروزه{ZWNJ}ای",
    "yellow": "زرد",
    "small": "کوچک",
    "large": "بزرگ",
    "rubber": "لاستیکی",
    "metal": "فلزی",
}
ATTRIBUTE_NAMES = {"color": "رنگ", "shape": "شکل", "size": f"اندازه{HAMZA_ABOVE}", "material": "جنس"}
"""The noun of each attribute, with the ezafe that joins it to what it belongs to."""
RELATION_WORDS = {
    "left of": "سمت چپ",
    "right of": "سمت راست",
    "behind": "پشت",
    "in front of": "جلوی",
}
OTHER_ANSWERS = {"yes": "بله", "no": "خیر", "rubber": "لاستیک", "metal": "فلز"}
"""Answers that are no words of a description: a material is an adjective there, and a noun in an answer."""


def _answer(english: str) -> str:
    """Return an answer in Persian; numbers have Persian digits."""
    words = {**NOUNS, **ADJECTIVES, **OTHER_ANSWERS}
    return english.translate(PERSIAN_DIGITS) if english.isdecimal() else words[english]


PERSIAN_ANSWERS = tuple(map(_answer, ANSWERS))
"""The answers in Persian, in the order of ANSWERS."""


def ask_persian(program: QuestionProgram) -> str:
    """Return the Persian question of a program."""
    first, *others = program.phrases
    other = _describe(others[0]) if others else ""
    related = f"{RELATION_WORDS[program.relation]} {other}" if program.relation else ""
    place = f"در {related}" if related.startswith("سمت") else related
    name = ATTRIBUTE_NAMES[program.attribute] if program.attribute else ""
    match program.asked:
        case "exists":
            return f"آیا یک {_describe(first)} وجود دارد؟"
        case "count":
            return f"چند {_describe(first)} وجود دارد؟"
        case "value":
            described = f"{_join(_describe(first))} {related}" if related else _describe(first)
            return f"{name} {described} چیست؟"
        case "compare-counts":
            comparison = "بیشتر" if program.comparison == "more" else "کمتر"
            second = _describe_many(others[0])
            return f"آیا تعداد {_describe_many(first)} از تعداد {second} {comparison} است؟"
        case "compare-values":
            return f"آیا {name} {_describe(first)} با {name} {other} یکسان است؟"
        case "relation":
            return f"آیا {_describe(first)} {place} است؟"
        case "count-related":
            return f"چند {_describe(first)} {place} وجود دارد؟"


def _describe(phrase: Phrase) -> str:
    """Return the words of a description in the singular: the noun, then the adjectives, joined by the ezafe."""
    noun, adjectives = _noun(phrase), _adjectives(phrase)
    return " ".join([_join(noun), *adjectives]) if adjectives else noun


def _describe_many(phrase: Phrase) -> str:
    """Return the words of a description in the plural; adjectives have no plural."""
    adjectives = _adjectives(phrase)
    ending = "های" if adjectives else "ها"
    return " ".join([f"{_noun(phrase)}{ZWNJ}{ending}", *adjectives])


def _noun(phrase: Phrase) -> str:
    """Return the noun of a description."""
    shape = phrase.value("shape")
    return NOUNS[shape] if shape else THING


def _adjectives(phrase: Phrase) -> list[str]:
    """Return the adjectives of a description: material, colour, size."""
    words = [phrase.value(name) for name in ("material", "color", "size")]
    return [ADJECTIVES[word] for word in words if word]


def _join(words: str) -> str:
    """Return words with the ezafe that joins them to what follows; it is written after a silent he only."""
    return words + HAMZA_ABOVE if words.endswith("ه") else words
