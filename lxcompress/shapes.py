"""Fixed shapes: the one input shape that a file is exported for."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class FixedShape:
    """The number of tokens of a question, and of regions of an image, that a file of fixed shape takes."""

    tokens: int
    objects: int

    def __post_init__(self) -> None:
        if min(self.tokens, self.objects) < 1:
            raise ValueError(f"expected 1 token and 1 region or more, got {self}")

    def __str__(self) -> str:
        """Return the shape as a user writes it, such as 20x36."""
        return f"{self.tokens}x{self.objects}"
