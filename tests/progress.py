"""A Progress that keeps what it is called with."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass
class KeptProgress:
    """Keep each call as (what, done, total)."""

    calls: list[tuple[str, int, int]] = field(default_factory=list)

    def __call__(self, what: str, done: int = 0, total: int = 0, *, value: float | None = None) -> None:
        """Keep the call."""
        self.calls.append((what, done, total))

    @property
    def measured(self) -> list[str]:
        """Return the artifacts whose runs were measured, in order."""
        return [what.removeprefix("measuring ") for what, _, _ in self.calls if what.startswith("measuring ")]
