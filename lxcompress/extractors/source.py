"""PhotoSource: photographs as a source of region features. Threads read the next ones ahead.

Shapes: O regions, F features.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Protocol

import numpy as np
import torch

from lxcompress.data.regions.ahead import read_ahead
from lxcompress.data.regions.identity import ExtractorRecord
from lxcompress.data.regions.rows import FIRST, BadRow, Position, RegionRow, RowError, check_id
from lxcompress.extractors.photo import Picture, quiet_pillow


class Extractor(Protocol):
    """A network that turns the pixels of a photograph into region features."""

    @property
    def record(self) -> ExtractorRecord:
        """Return its identity: its name, its version and its settings."""

    @property
    def objects(self) -> int:
        """Return the most regions of a photograph."""

    def read(self, path: Path) -> Picture:
        """Return a photograph as the network reads it. Raises RowError or DataError."""

    def find_regions(self, picture: Picture) -> tuple[np.ndarray, np.ndarray]:
        """Return the features [O, F] and the boxes [O, 4] (0-1) of the regions, float32, for what `read` returned."""


@dataclass(frozen=True)
class PhotoSource:
    """Photographs, and the extractor of their features; `threads` work on one photograph each.

    The features of a photograph do not depend on the other photographs, nor on the number of threads.
    """

    paths: tuple[Path, ...]
    ids: tuple[str, ...]
    extractor: Extractor
    threads: int
    unit: str = "photograph"

    @cached_property
    def name(self) -> str:
        """Return the number of photographs, and a checksum of their names and ids."""
        pairs = [f"{path.name} {image}" for path, image in zip(self.paths, self.ids, strict=True)]
        digest = hashlib.sha256("\n".join(pairs).encode("utf-8", "surrogateescape")).hexdigest()[:8]
        return f"{len(self.paths)} photographs (list {digest})"

    @property
    def where(self) -> str:
        return "photographs"

    @cached_property
    def size_bytes(self) -> int:
        return sum(path.stat().st_size for path in self.paths)

    @contextmanager
    def rows(self, start: Position = FIRST) -> Iterator[Iterator[RegionRow | BadRow]]:
        # One thread for each photograph is faster than several for one, and its digits do not depend on their number.
        before = torch.get_num_threads()
        with (
            quiet_pillow(),
            ThreadPoolExecutor(
                self.threads, thread_name_prefix="photo", initializer=torch.set_num_threads, initargs=(1,)
            ) as pool,
        ):
            try:
                positions = map(Position, range(start.item, len(self.paths) + 1))
                yield read_ahead(pool, self._row, positions, threads=self.threads)
            finally:
                pool.shutdown(cancel_futures=True)
                torch.set_num_threads(before)  # the number of a thread is partly that of the whole process

    def share(self, position: Position) -> float:
        return (position.item - 1) / len(self.paths)

    def about_images(self) -> int:
        return len(self.paths)

    def _row(self, position: Position) -> RegionRow | BadRow:
        """Return the features of one photograph; a thread does this."""
        path, image = self.paths[position.item - 1], self.ids[position.item - 1]
        try:
            features, boxes = self.extractor.find_regions(self.extractor.read(path))
            return RegionRow(position, check_id(image), features, boxes)
        except RowError as problem:
            return BadRow(position, image, f"{path}: {problem}")
