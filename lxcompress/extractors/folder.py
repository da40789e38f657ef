"""FolderImages: the photographs of a folder as an image source of a data set, one region of pixels for each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lxcompress.data.images import pad_regions
from lxcompress.data.problems import Problems, several
from lxcompress.data.questions import Question, SplitQuestions
from lxcompress.data.regions.rows import RowError
from lxcompress.data.split import Regions
from lxcompress.errors import DataError
from lxcompress.extractors.photo import quiet_pillow
from lxcompress.extractors.pixels import PixelExtractor


@dataclass(frozen=True)
class FolderImages:
    """The photographs in `folder`, resized to `side` x `side` pixels. The name of an image is its path in the folder.

    All of them are held in memory. Many photographs are read faster from a store: `lxcompress features --extractor
    pixels`.
    """

    folder: Path
    side: int

    def find(
        self, questions: Sequence[Question], split: SplitQuestions, problems: Problems
    ) -> tuple[Regions, list[list[int]]]:
        """Return the pixels of the images, and for each question the rows of its images; see `ImageSource.find`."""
        extractor = PixelExtractor(self.side)
        names = dict.fromkeys(image for question in questions for image in question.images)
        found = [name for name in names if _is_file(self.folder / name)]
        missing = sorted(names.keys() - set(found))
        if missing:
            problems.add(
                DataError(
                    f"{split.where}: names {several(missing, 'image')} that {self.folder} lacks; put "
                    f"{'it' if len(missing) == 1 else 'them'} there, or correct data.images"
                )
            )
        rows: dict[str, int] = {}
        pictures: list[tuple[np.ndarray, np.ndarray]] = []
        with quiet_pillow():
            for name in found:
                try:
                    pixels = extractor.read(self.folder / name).pixels
                except RowError as reason:
                    problems.add(DataError(f"{self.folder / name}: {reason}; replace it, or take its rows out"))
                    continue
                rows[name] = len(pictures)
                pictures.append((extractor.extract(pixels), extractor.boxes))
        return pad_regions(pictures), [[rows.get(image, -1) for image in question.images] for question in questions]


def _is_file(path: Path) -> bool:
    """Return whether `path` is a file; False for a name that no file can have."""
    try:
        return path.is_file()
    except (OSError, ValueError):  # too long a name, or a null character
        return False
