"""Persian normalisation: the different ways to type one Persian word become one, before it is split into tokens.

Rules, in this order: letters with their marks become one character (Unicode NFC); Arabic yeh, alef maksura and kaf
become the Persian letters, and teh marbuta and heh with hamza become heh; vowel marks, the written ezafe, the tatweel,
the zero-width non-joiner and marks of direction are left out; digits of both scripts become those of the vocabulary.
BERT's own tokenizer leaves out the zero-width non-joiner too, so a vocabulary that was made with it fits.
"""

from __future__ import annotations

import unicodedata

ZWNJ = "\u200c"
_LETTERS = {"\u064a": "\u06cc", "\u0649": "\u06cc", "\u0643": "\u06a9", "\u0629": "\u0647", "\u06c0": "\u0647"}
"""Arabic yeh, alef maksura, kaf, teh marbuta, and heh with hamza -> the Persian letter."""
_ZERO_WIDTH = [*range(0x200B, 0x2010), *range(0x202A, 0x202F), *range(0x2066, 0x206A)]
_MARKS = [*range(0x064B, 0x0660), 0x0670, 0x0640, *_ZERO_WIDTH]
"""Vowel marks, superscript alef, tatweel, zero-width characters, and marks of direction."""
_FOLDED: dict[int, str | None] = {**{ord(letter): other for letter, other in _LETTERS.items()}, **dict.fromkeys(_MARKS)}

PERSIAN_DIGITS = {ord("0") + digit: chr(0x06F0 + digit) for digit in range(10)}
"""A table for str.translate: digits -> Persian digits."""
_ASCII_DIGITS = {first + digit: chr(ord("0") + digit) for first in (0x0660, 0x06F0) for digit in range(10)}
"""A table for str.translate: Arabic-Indic and Persian digits -> digits."""


def normalise_persian(text: str, *, has_persian_digits: bool = True) -> str:
    """Return `text` with each Persian word written in one way; digits become Persian ones, or ASCII ones if not."""
    folded = unicodedata.normalize("NFC", text).translate(_FOLDED).translate(_ASCII_DIGITS)
    return folded.translate(PERSIAN_DIGITS) if has_persian_digits else folded


def persian_replacements(*, has_persian_digits: bool) -> dict[str, str]:
    """Return what `normalise_persian` writes in place of each character after NFC: character -> text."""
    characters = {*_FOLDED, *_ASCII_DIGITS, *(PERSIAN_DIGITS if has_persian_digits else ())}
    replaced = {
        chr(code): normalise_persian(chr(code), has_persian_digits=has_persian_digits) for code in sorted(characters)
    }
    return {character: text for character, text in replaced.items() if character != text}
