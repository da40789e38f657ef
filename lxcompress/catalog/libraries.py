"""Libraries that a format or a runtime needs, and how to install them."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence


def describe_missing(libraries: Sequence[str], extra: str | None) -> str | None:
    """Return a clause that names those of `libraries` that are not installed, and the remedy; None if all are there.

    `extra` is the extra of lxcompress that installs them; without one, they are installed by their own names.
    """
    missing = [name for name in libraries if importlib.util.find_spec(name) is None]
    if not missing:
        return None
    wanted = f"'lxcompress[{extra}]'" if extra else " ".join(missing)
    return f"needs {' and '.join(missing)}; install it with: pip install {wanted}"
