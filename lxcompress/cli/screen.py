"""The terminal: one console for results (standard output), one for progress and remarks (standard error)."""

from __future__ import annotations

from rich.console import Console

out = Console(highlight=False, soft_wrap=False)
remarks = Console(stderr=True, highlight=False)
