"""Check that the libraries of a format or a runtime are installed, and say how to install them."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence


def describe_missing(libraries: Sequence[str], extra: str | None) -> str | None:
    """Return a clause that names the missing ones of `libraries` and how to install them; None if none is missing.

    `extra` is the extra of lxcompress that installs the libraries. If it is None, the clause names the libraries
    themselves.
    """
    missing = [name for name in libraries if importlib.util.find_spec(name) is None]
    if not missing:
        return None
    wanted = f"'lxcompress[{extra}]'" if extra else " ".join(missing)
    return f"needs {' and '.join(missing)}; install it with: pip install {wanted}"
