"""The folder of a page while it is written: the files have their SHA-256 in their names."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path
from typing import Any

from lxcompress.rundir import sha256

DIGITS = 12
"""The digits of a SHA-256 that are in a file's name."""


class PageFolder:
    """The folder of a page that is being written."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def add(self, name: str, content: bytes | Path) -> dict[str, Any]:
        """Write a file, with its SHA-256 in its name; return its path, its SHA-256 and its size."""
        digest = sha256(content) if isinstance(content, Path) else hashlib.sha256(content).hexdigest()
        stem, _, extension = name.rpartition(".")
        path = f"{stem}-{digest[:DIGITS]}.{extension}"
        if isinstance(content, Path):
            shutil.copyfile(content, self.root / path)
        else:
            (self.root / path).write_bytes(content)
        return self.identify(path)

    def identify(self, path: str) -> dict[str, Any]:
        """Return the path, the SHA-256 and the size of a file in the folder."""
        return {"path": path, "sha256": sha256(self.root / path), "bytes": (self.root / path).stat().st_size}
