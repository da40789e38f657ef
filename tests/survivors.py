"""The changes that no test can notice, and why: module -> change -> reason."""

from __future__ import annotations

SURVIVORS: dict[str, dict[str, str]] = {}
