"""Laws of fewer regions: the first ones of a detector, the means of a grid's cells, and the same questions."""

from __future__ import annotations

import pytest
import torch

from lxcompress.data.fit import foresee_data
from lxcompress.data.regions.fewer import grid_boxes, grid_side, keep_first
from lxcompress.data.split import Regions
from lxcompress.data.tasks import load_task
from lxcompress.errors import DataError
from lxcompress.extractors.grid import GridExtractor
from lxcompress.recipe import ScenesData

SCENES = {"kind": "scenes", "train": 60, "valid": 20, "objects": 12}


def grid(side: int, *, images: int = 3) -> Regions:
    """Return a grid of `side` x `side` cells with 2 random features."""
    features = torch.rand(images, side * side, 2, generator=torch.Generator().manual_seed(side)).half()
    boxes = grid_boxes(side, side).repeat(images, 1, 1)
    return Regions(features, boxes, torch.full((images,), side * side))


def test_the_first_regions_of_a_detector_are_kept() -> None:
    boxes = torch.rand(2, 4, 4, generator=torch.Generator().manual_seed(0))
    regions = Regions(torch.arange(16.0).reshape(2, 4, 2), boxes, torch.tensor([4, 1]))
    kept = keep_first(regions, 2)
    assert torch.equal(kept.features, regions.features[:, :2])
    assert torch.equal(kept.boxes, boxes[:, :2])
    assert kept.objects.tolist() == [2, 1]
    assert keep_first(regions, 4).objects.tolist() == [4, 1]
    with pytest.raises(DataError, match="5 regions are wanted, but the images have at most 4"):
        keep_first(regions, 5)


@pytest.mark.parametrize(("count", "rows", "columns"), [(9, 3, 3), (4, 2, 2), (18, 3, 6), (12, 3, 4), (1, 1, 1)])
def test_a_cell_of_a_coarser_grid_is_the_mean_of_those_it_covers(count, rows, columns) -> None:
    regions = grid(6)
    kept = keep_first(regions, count)
    maps = regions.features.float().reshape(3, 6, 6, 2)
    for row in range(rows):
        for column in range(columns):
            top, left = row * 6 // rows, column * 6 // columns
            bottom, right = -(-(row + 1) * 6 // rows), -(-(column + 1) * 6 // columns)
            mean = maps[:, top:bottom, left:right].mean((1, 2))
            assert torch.allclose(kept.features[:, row * columns + column].float(), mean, atol=1e-3)
    assert torch.equal(kept.boxes[0], grid_boxes(rows, columns))
    assert kept.objects.tolist() == [count] * 3


def test_the_grid_is_that_of_the_extractor() -> None:
    boxes = GridExtractor.boxes.fget
    assert boxes is not None
    assert torch.allclose(grid_boxes(6, 6), torch.from_numpy(boxes(type("Six", (), {"grid": 6})())))
    assert grid_side(grid(6)) == 6
    moved = grid(6)
    moved.boxes[1, 3, 2] += 0.01
    assert grid_side(moved) is None, "a detector may write 36 regions too"
    with pytest.raises(DataError, match="a grid of 6 x 6 regions cannot be pooled to 14; give one of 36, 30, 25"):
        keep_first(grid(6), 14)


def test_a_recipe_names_the_number(tmp_path) -> None:
    whole, fewer = (load_task(ScenesData(**SCENES, regions=regions)) for regions in (None, 5))
    assert foresee_data(ScenesData(**SCENES)).regions == 12
    assert foresee_data(ScenesData(**SCENES, regions=5)).regions == 5
    assert fewer.train.regions.features.shape[1] == 5
    assert torch.equal(fewer.train.regions.features, whole.train.regions.features[:, :5])
    assert torch.equal(fewer.train.input_ids, whole.train.input_ids)
    assert int(whole.train.regions.objects.max()) == 12
