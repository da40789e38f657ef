"""Laws of NLVR: a group is on one side of the split, nothing of an identifier is seen, and objects look as they are."""

from __future__ import annotations

import gzip
import json
import random
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
import torch

from lxcompress.data.nlvr import HOLDOUT, LABELS, TOKEN_LIMIT, held_out, see_object
from lxcompress.data.objects import ATTRIBUTES, FEATURES
from lxcompress.data.split import AnswerTask, Split
from lxcompress.data.tasks import load_task
from lxcompress.data.tokens import read_vocabulary, shipped_vocabulary
from lxcompress.errors import DataError
from lxcompress.recipe import NlvrData
from tests.real import real

NAMES = {"Yellow": "yellow", "#0099ff": "blue", "Black": "gray", "circle": "sphere", "square": "cube"} | {
    "triangle": "cylinder"
}
Record = dict[str, Any]


def thing(draw: random.Random) -> Record:
    size = draw.choice([10, 20, 30])
    x, y = (draw.randint(0, 100 - size) for _ in "xy")
    return {"x_loc": x, "y_loc": y, "size": size, "type": draw.choice(["circle", "square", "triangle"])} | {
        "color": draw.choice(["Yellow", "#0099ff", "Black"])
    }


def record(group: int, number: int, label: str = "label") -> Record:
    draw = random.Random(100 * group + number)
    return {
        "sentence": f"There are {group} yellow things in a box.",
        label: draw.choice(LABELS),
        "identifier": f"{group}-{number}",
        "directory": "2",
        "structured_rep": [[thing(draw) for _ in range(draw.randint(0, 4))] for _ in range(3)],
    }


def records(groups: Iterable[int], numbers: Iterable[int] = range(2), label: str = "label") -> list[Record]:
    return [record(group, number, label) for group in groups for number in numbers]


def write(path: Path, found: list[Record], *, is_list: bool = False) -> Path:
    text = json.dumps(found) if is_list else "\n".join(json.dumps(each) for each in found)
    path.write_bytes(gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode())
    return path


def settings(folder: Path, **fields: Any) -> NlvrData:
    files = {
        "train": write(folder / "train.json", records(range(10))),
        "weak": write(folder / "weak.json", records(range(12), (2, 3), "weak_label")),
    }
    given = {name: value for name, value in (files | fields).items() if value is not None}
    return NlvrData(kind="nlvr", **given)


def load(data: NlvrData) -> AnswerTask:
    return load_task(data, shipped_vocabulary())


def complain(data: NlvrData) -> str:
    """The one sentence that reading ends with."""
    with pytest.raises(DataError) as caught:
        load(data)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def groups_of(split: Split) -> set[str]:
    return {str(question_id).partition("-")[0] for question_id in split.ids}


def seen(split: Split) -> list[torch.Tensor]:
    """Every tensor of a split."""
    regions = split.regions
    tensors = [split.input_ids, split.scene, regions.features, regions.boxes, regions.objects]
    return [*tensors, split.answers, split.credits]


def same(one: AnswerTask, two: AnswerTask) -> bool:
    pairs = ((one.train, two.train), (one.valid, two.valid))
    return all(torch.equal(a, b) for first, second in pairs for a, b in zip(seen(first), seen(second), strict=True))


def test_lines_and_a_list_and_gzip_are_the_same_task(tmp_path) -> None:
    whole = load(settings(tmp_path))
    for name, is_list in (("list.json", True), ("lines.json.gz", False), ("list.json.gz", True)):
        assert same(whole, load(settings(tmp_path, train=write(tmp_path / name, records(range(10)), is_list=is_list))))
    assert not same(whole, load(settings(tmp_path, train=write(tmp_path / "other.json", records(range(11))))))


@pytest.mark.parametrize("holdout", [None, 0.1, 0.5, 0.99])
def test_whole_groups_are_held_out_and_weak_ones_go_with_them(holdout, tmp_path) -> None:
    task = load(settings(tmp_path, holdout=holdout))
    assert len(groups_of(task.valid)) == {None: 2, 0.1: 1, 0.5: 5, 0.99: 9}[holdout]
    assert not groups_of(task.train) & groups_of(task.valid)
    assert groups_of(task.train) | groups_of(task.valid) == {str(group) for group in range(12)}
    # Gold comes before weak, each in its file's order, and no weak question is scored.
    numbers = [int(str(question_id).partition("-")[2]) for question_id in task.train.ids]
    gold = 2 * (10 - len(groups_of(task.valid)))
    assert [number < 2 for number in numbers] == [True] * gold + [False] * (len(numbers) - gold)
    assert all(str(question_id).endswith(("-0", "-1")) for question_id in task.valid.ids)


def test_the_same_groups_are_held_out_whatever_the_order() -> None:
    groups = [str(group) for group in range(100)]
    first = held_out(groups, HOLDOUT, "")
    assert len(first) == 20
    assert held_out(reversed(groups), HOLDOUT, "") == first
    assert held_out(groups, 0.3, "") > first
    assert len(held_out(groups[:2], 0.001, "")) == len(held_out(groups[:2], 0.999, "")) == 1


def test_nothing_of_an_identifier_is_in_a_tensor(tmp_path) -> None:
    task = load(settings(tmp_path))
    draw = random.Random(0)
    for _ in range(3):
        numbers = draw.sample("0123456789", 10)
        renamed = {
            name: [
                each | {"identifier": each["identifier"][:-1] + numbers[int(each["identifier"][-1])]} for each in old
            ]
            for name, old in (
                ("train", records(range(10))),
                ("weak", records(range(12), (2, 3), "weak_label")),
            )
        }
        files = {name: write(tmp_path / f"{name}-renamed.json", found) for name, found in renamed.items()}
        other = load(settings(tmp_path, **files))
        assert other.train.ids != task.train.ids
        assert same(task, other)


def test_validation_files_validate_and_share_no_group(tmp_path) -> None:
    dev = write(tmp_path / "dev.json", records((10, 20)))
    task = load(settings(tmp_path, valid=dev))
    assert groups_of(task.valid) == {"10", "20"}
    assert groups_of(task.train) == {str(group) for group in range(12)} - {"10"}
    shared = write(tmp_path / "shared.json", records((7, 8, 20), (5,)))
    said = complain(settings(tmp_path, valid=shared))
    assert said.startswith(f"{shared}: 2 groups (7, 8) are in {tmp_path / 'train.json'} too")


def test_limits_cut_questions_and_nothing_else(tmp_path) -> None:
    whole, cut = load(settings(tmp_path)), load(settings(tmp_path, max_train=5, max_valid=3))
    assert (cut.train.ids, cut.valid.ids) == (whole.train.ids[:5], whole.valid.ids[:3])
    rows = torch.arange(3)
    assert all(torch.equal(a, b) for a, b in zip(cut.valid.inputs(rows), whole.valid.inputs(rows), strict=True))


def test_objects_are_seen_as_they_are(tmp_path) -> None:
    task = load(settings(tmp_path))
    assert task.feature_size == FEATURES
    for row, name in enumerate(task.valid.ids):
        boxes = record(*map(int, str(name).split("-")))["structured_rep"]
        things = [(box, each) for box, found in enumerate(boxes) for each in found]
        assert int(task.valid.regions.objects[row]) == max(1, len(things))
        for index, (box, each) in enumerate(things):
            attributes = {"color": {NAMES[each["color"]]}, "shape": {NAMES[each["type"]]}, "material": set()} | {
                "size": {10: {"small"}, 20: {"small", "large"}, 30: {"large"}}[each["size"]]
            }
            shown = [
                (value in attributes[name]) / len(attributes[name] or "1")
                for name, values in ATTRIBUTES.items()
                for value in values
            ]
            x, y = 100 * box + each["x_loc"], each["y_loc"]
            half = each["size"] / 2
            expected = torch.tensor([*shown, (x + half) / 150 - 1, (y + half) / 50 - 1, box - 1])
            torch.testing.assert_close(task.valid.regions.features[row, index], expected)
            corners = torch.tensor([x / 300, y / 100, (x + 2 * half) / 300, (y + 2 * half) / 100])
            torch.testing.assert_close(task.valid.regions.boxes[row, index], corners)
        assert not bool(task.valid.regions.features[row, len(things) :].any())
        assert not bool(task.valid.regions.boxes[row, len(things) :].any())
        assert task.labels[int(task.valid.answers[row, 0])] == record(*map(int, str(name).split("-")))["label"]


def test_boxes_stand_side_by_side_in_the_picture() -> None:
    each = {"x_loc": 90, "y_loc": 0, "size": 20, "type": "square", "color": "Black"}
    boxes = [see_object(each, box)[1] for box in range(3)]
    assert [box[0] for box in boxes] == pytest.approx([0.3, 19 / 30, 29 / 30])
    assert boxes[2][2] == 1


def test_a_scene_without_objects_is_one_region_that_shows_nothing(tmp_path) -> None:
    found = [record | {"structured_rep": [[], [], []]} for record in records(range(10))]
    task = load(settings(tmp_path, train=write(tmp_path / "empty.json", found), weak=None))
    assert task.train.regions.objects.tolist() == [1] * len(task.train)
    assert not bool(task.train.regions.features.any())


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"color": "Red"}, "color 'Red' is not one of Yellow, #0099ff, Black"),
        ({"type": "star"}, "type 'star' is not one of circle, square, triangle"),
        ({"size": 15}, "size 15 is not one of 10, 20, 30"),
        ({"x_loc": 96}, "x_loc 96 is not within its box"),
        ({"y_loc": -20}, "y_loc -20 is not within its box"),
        ({"x_loc": "5"}, "x_loc '5'"),
        ({"y_loc": float("nan")}, "y_loc nan"),
        ({"size": [10]}, "unhashable"),
        ({"y_loc": None}, "y_loc None"),
    ],
)
def test_an_object_that_is_none_of_nlvrs_is_named(change, named, tmp_path) -> None:
    found = records(range(10))
    good = {"x_loc": 0, "y_loc": 0, "size": 10, "type": "square", "color": "Black"}
    found[5]["structured_rep"][1] = [good | change]
    path = write(tmp_path / "bad.json", found)
    said = complain(settings(tmp_path, train=path))
    assert said.startswith(f"{path}: 2-1 has an object that is not NLVR's (")
    assert named in said


def test_an_object_that_lacks_something_is_told_what(tmp_path) -> None:
    found = records(range(10))
    found[5]["structured_rep"][1] = [{"x_loc": 0, "y_loc": 0, "size": 10, "type": "square"}]
    assert "(no 'color')" in complain(settings(tmp_path, train=write(tmp_path / "bad.json", found)))


@pytest.mark.parametrize(
    "change",
    [
        {"identifier": 5},
        {"identifier": "7"},
        {"identifier": "-1"},
        {"identifier": "7-"},
        {"sentence": None},
        {"structured_rep": None},
        {"structured_rep": [[], []]},
    ],
)
def test_a_bad_record_is_named_by_its_place(change, tmp_path) -> None:
    found = records(range(10))
    found[5] |= change
    path = write(tmp_path / "bad.json", found)
    assert complain(settings(tmp_path, train=path)).startswith(f"{path}: record 5 is ")


def test_weak_labels_are_for_weak_files_alone(tmp_path) -> None:
    weak = write(tmp_path / "w.json", records(range(20, 22), label="weak_label"))
    assert complain(settings(tmp_path, train=weak)).endswith("give the file as data.weak")
    assert complain(settings(tmp_path, valid=weak)).endswith("give the file as data.weak")
    gold = write(tmp_path / "g.json", records(range(20, 22)))
    assert "the weak_label of 20-0 is null" in complain(settings(tmp_path, weak=gold))


def test_an_example_that_comes_twice_is_refused(tmp_path) -> None:
    train = write(tmp_path / "twice.json", records((1, 2, 1)))
    assert complain(settings(tmp_path, train=train)).startswith(f"{train}: 2 question ids (1-0, 1-1) come twice")
    weak = write(tmp_path / "w.json", records((10, 11, 3), (0,), "weak_label"))
    dev = write(tmp_path / "dev.json", records((50,)))
    assert "3-0 comes twice" in complain(settings(tmp_path, weak=weak, valid=dev))


def test_one_group_cannot_be_split(tmp_path) -> None:
    train = write(tmp_path / "one.json", records((1,), range(4)))
    assert complain(settings(tmp_path, train=train)).startswith(f"{train}: has one group, too few to hold some out")


@pytest.fixture(scope="module")
def published() -> dict[str, Path]:
    names = {"train": "train1000_decoded.json", "valid": "dev.json", "weak": "train_weak_groups.json"}
    return {name: real("nlvr", file) for name, file in names.items()}


def test_the_published_scenes_are_read_whole(published) -> None:
    task = load(NlvrData(kind="nlvr", **published))
    assert (len(task.train), len(task.valid)) == (3_525, 989)
    assert round(100 * float((task.valid.answers == LABELS.index("true")).float().mean()), 1) == 55.3
    assert int(task.train.regions.objects.min()) == 3
    for split in (task.train, task.valid):
        assert 0 <= float(split.regions.boxes.min()) <= float(split.regions.boxes.max()) <= 1
        assert -1 <= float(split.regions.features.min()) <= float(split.regions.features.max()) <= 1
        assert split.input_ids.shape[1] < TOKEN_LIMIT


def test_groups_of_the_published_scenes_are_apart_when_held_out(published) -> None:
    task = load(NlvrData(kind="nlvr", train=published["train"], weak=published["weak"]))
    assert not groups_of(task.train) & groups_of(task.valid)
    assert len(groups_of(task.valid)) == round(HOLDOUT * 894)
    assert len(task.train) + len(task.valid) < 3_525


def test_no_word_of_the_published_sentences_is_unknown_to_bert(published) -> None:
    vocabulary = read_vocabulary(real("vocab", "vocab.txt"))
    task = load_task(NlvrData(kind="nlvr", **published), vocabulary)
    assert not bool((task.train.input_ids == vocabulary.index("[UNK]")).any())
