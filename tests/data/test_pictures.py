"""Laws of pictures: what is drawn lies where the boxes say, shows every attribute, and the nearest hides the rest."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
import torch

from lxcompress.data.objects import ATTRIBUTES, COLORS, object_boxes, project
from lxcompress.data.pictures import GROUND, RGB, draw_pictures
from lxcompress.data.tasks import load_task
from lxcompress.data.tokens import shipped_vocabulary
from lxcompress.recipe import ScenesData

BARE = np.float32(GROUND / 127.5 - 1)
PLAIN = {"color": "red", "shape": "cube", "size": "large", "material": "rubber"}


def draw(*objects: dict[str, str], right=None, front=None, present=None, side: int = 48) -> np.ndarray:
    """[3, N, N]: one scene of these objects, all at the middle unless said otherwise."""
    values, places = describe(*objects, right=right, front=front)
    there = np.ones((1, len(objects)), dtype=bool) if present is None else np.asarray([present])
    return draw_pictures(values, places, there, side=side)[0]


def describe(*objects: dict[str, str], right=None, front=None) -> tuple[dict[str, np.ndarray], np.ndarray]:
    values = {name: np.asarray([[names.index(each[name]) for each in objects]]) for name, names in ATTRIBUTES.items()}
    zeros = [0.0] * len(objects)
    return values, project(np.asarray([right or zeros]), np.asarray([front or zeros]), np.full((1, len(objects)), 0.35))


def is_painted(picture: np.ndarray) -> np.ndarray:
    return (picture != BARE).any(0)


@pytest.fixture(scope="module")
def pair():
    settings = ScenesData(kind="scenes", train=60, valid=20)
    return [load_task(settings.model_copy(update={"pixels": pixels}), shipped_vocabulary()) for pixels in (None, 16)]


def test_the_questions_and_answers_do_not_depend_on_how_scenes_are_seen(pair) -> None:
    regions, pictures = pair
    for one, other in ((regions.train, pictures.train), (regions.valid, pictures.valid)):
        assert torch.equal(one.input_ids, other.input_ids)
        assert torch.equal(one.answers, other.answers)
        assert torch.equal(one.scene, other.scene)


def test_a_picture_is_the_one_region_of_its_image(pair) -> None:
    split = pair[1].train
    assert split.regions.features.shape[1:] == (1, 3 * 16 * 16)
    assert split.regions.boxes.unique(dim=0).tolist() == [[[0.0, 0.0, 1.0, 1.0]]]
    assert split.regions.objects.unique().tolist() == [1]
    assert -1 <= float(split.regions.features.min()) < float(split.regions.features.max()) <= 1
    inputs = split.inputs(torch.arange(5))
    assert inputs.visual_feats.shape == (5, 1, 768)
    assert inputs.visual_feats.dtype == torch.float32


def test_a_lone_object_lies_in_its_box_and_is_of_its_colour() -> None:
    for name, color in RGB.items():
        values, places = describe({**PLAIN, "color": name}, right=[1.5], front=[-1.0])
        picture = draw_pictures(values, places, np.ones((1, 1), dtype=bool), side=48)[0]
        x1, y1, x2, y2 = object_boxes(places, values["size"])[0, 0] * 48
        rows, columns = np.nonzero(is_painted(picture))
        assert rows.min() >= np.floor(y1)
        assert rows.max() < np.ceil(y2)
        assert columns.min() >= np.floor(x1)
        assert columns.max() < np.ceil(x2)
        middle = picture[:, int((y1 + y2) / 2), int((x1 + x2) / 2)]
        np.testing.assert_allclose((middle + 1) * 127.5, color, atol=1e-3)


@pytest.mark.parametrize("side", [24, 32, 64])
@pytest.mark.parametrize("attribute", list(ATTRIBUTES))
@pytest.mark.parametrize("size", ATTRIBUTES["size"])
def test_every_attribute_shows(attribute, size, side) -> None:
    drawn = [draw({**PLAIN, "size": size, attribute: value}, side=side) for value in ATTRIBUTES[attribute]]
    assert all(np.abs(one - other).max() > 0.05 for one, other in combinations(drawn, 2))


def test_large_is_larger_and_near_is_larger() -> None:
    def area(size: str, front: float) -> int:
        return int(is_painted(draw({**PLAIN, "size": size}, front=[front])).sum())

    assert area("small", 0.0) < area("large", 0.0)
    assert area("large", -2.0) < area("large", 2.0)


def test_the_nearest_hides_the_rest_in_whatever_order_they_come() -> None:
    near, far = {**PLAIN, "color": "blue"}, {**PLAIN, "color": "yellow", "size": "small"}
    alone = draw(near, front=[0.1])
    assert np.array_equal(draw(far, near, front=[0.0, 0.1]), alone)
    assert np.array_equal(draw(near, far, front=[0.1, 0.0]), alone)
    assert not np.array_equal(draw(near, far, front=[0.0, 0.1]), draw(near))


def test_what_is_not_there_is_not_drawn() -> None:
    assert not is_painted(draw(PLAIN, present=[False])).any()
    assert np.array_equal(draw(PLAIN, {**PLAIN, "color": COLORS[-1]}, right=[0, 2], present=[True, False]), draw(PLAIN))


def test_an_object_at_the_edge_is_cut_and_one_beyond_it_is_not_seen() -> None:
    assert 0 < is_painted(draw(PLAIN, right=[4.9])).sum() < is_painted(draw(PLAIN)).sum()
    assert not is_painted(draw(PLAIN, right=[9.0])).any()
