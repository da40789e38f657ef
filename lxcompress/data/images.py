"""Image sources: objects that give the regions of the images that questions are about.

Shapes: S images, O regions of an image, F features of a region.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch

from lxcompress.data.problems import Problems, several
from lxcompress.data.questions import Question, SplitQuestions
from lxcompress.data.regions.rows import strip_extension
from lxcompress.data.regions.store import RegionStore
from lxcompress.data.split import Regions
from lxcompress.errors import DataError
from lxcompress.text import shorten


@dataclass(frozen=True)
class StoreImages:
    """The images of a store of region features."""

    store: RegionStore

    def find(
        self, questions: Sequence[Question], split: SplitQuestions, problems: Problems
    ) -> tuple[Regions, list[list[int]]]:
        """Return all regions of the store, and for each question the rows of its images; see `ImageSource.find`."""
        return self._regions, find_images(questions, self.store, split, problems)

    @cached_property
    def _regions(self) -> Regions:
        """Return the store's arrays as tensors on the same memory maps.

        Nothing is read yet. Both splits share these tensors.
        """
        return Regions(
            features=torch.from_numpy(self.store.features),
            boxes=torch.from_numpy(self.store.boxes),
            objects=torch.from_numpy(np.asarray(self.store.objects, dtype=np.int64)),
        )


@dataclass(frozen=True)
class BlankImages:
    """One blank image for all questions: a model that reads it can use only the question."""

    feature_size: int

    def find(
        self, questions: Sequence[Question], split: SplitQuestions, problems: Problems
    ) -> tuple[Regions, list[list[int]]]:
        """Return the regions of the blank image, and row 0 for every image of every question."""
        return self._regions, [[0] * len(question.images) for question in questions]

    @cached_property
    def _regions(self) -> Regions:
        """Return the regions of the blank image; all splits share them."""
        return blank_regions(self.feature_size)


@dataclass(frozen=True)
class ListedImages:
    """Images whose regions are in the data set itself: name of an image -> features [O, F] and boxes [O, 4]."""

    images: Mapping[str, tuple[np.ndarray, np.ndarray]]

    def find(
        self, questions: Sequence[Question], split: SplitQuestions, problems: Problems
    ) -> tuple[Regions, list[list[int]]]:
        """Return the regions of the images that `questions` are about, and for each question the rows of its images.

        The images are in the order of the data set. An image without a region gets one region of zeros.
        """
        used = {image for question in questions for image in question.images}
        names = [image for image in self.images if image in used]
        missing = sorted(used - set(names))
        if missing:
            problems.add(DataError(f"{split.where}: asks about {several(missing, 'image')} without regions; add them"))
        rows = {image: row for row, image in enumerate(names)}
        found = [[rows.get(image, -1) for image in question.images] for question in questions]
        return pad_regions([self.images[image] for image in names]), found


def pad_regions(images: Sequence[tuple[np.ndarray, np.ndarray]]) -> Regions:
    """Return the Regions of `images`: pairs of features [O, F] and boxes [O, 4].

    Images are padded with zeros to the image with most regions.
    """
    counts = np.asarray([max(1, len(features)) for features, _ in images], dtype=np.int64)
    size = images[0][0].shape[1] if images else 1
    shape = (len(images), int(counts.max(initial=1)))
    features, boxes = np.zeros((*shape, size), np.float32), np.zeros((*shape, 4), np.float32)
    for row, (image_features, image_boxes) in enumerate(images):
        features[row, : len(image_features)], boxes[row, : len(image_boxes)] = image_features, image_boxes
    return Regions(torch.from_numpy(features), torch.from_numpy(boxes), torch.from_numpy(counts))


def blank_regions(feature_size: int) -> Regions:
    """Return the Regions of one image with one region, whose features and box are zeros."""
    return Regions(
        features=torch.zeros(1, 1, feature_size), boxes=torch.zeros(1, 1, 4), objects=torch.ones(1, dtype=torch.int64)
    )


def find_images(
    questions: Sequence[Question], store: RegionStore, split: SplitQuestions, problems: Problems
) -> list[list[int]]:
    """Return for each question the rows of its images in `store`; report images that are missing, with the row -1.

    A missing image is an error; an image that is found only without its file extension is a warning.
    """
    rows: dict[str, int] = {}
    missing: dict[str, list[str]] = {}
    shortened: dict[str, str] = {}
    for question in questions:
        for image in question.images:
            if image in rows:
                continue
            try:
                rows[image] = store.row(image)
            except KeyError:
                rows[image] = -1
                missing.setdefault(split.file_of(question), []).append(image)
                continue
            stored = store.ids[rows[image]]
            if stored != image and strip_extension(image) != image:
                shortened[image] = stored
    for file, images in missing.items():
        problems.add(
            DataError(
                f"{file}: asks about {several(sorted(images), 'image')} that {store.path} lacks; "
                f"{_explain_missing(sorted(images), store)}"
            )
        )
    if shortened:
        image, stored = min(shortened.items())
        problems.warn(
            f"data.{split.name}",
            f"names {several(sorted(shortened), 'image')} with a file extension, and {store.path} without: "
            f"{shorten(image)} is taken for {shorten(stored)}",
        )
    return [[rows[image] for image in question.images] for question in questions]


def _explain_missing(missing: Sequence[str], store: RegionStore) -> str:
    """Return the remedy, for an error message, for images that a store lacks."""
    longer = store.find_longer(missing)
    if longer is None:
        return "convert the features of this split too: lxcompress data prepare"
    return (
        f"the questions say {shorten(longer[0])} and the features {shorten(longer[1])}: convert them with "
        "lxcompress data prepare --strip-extension"
    )
