"""Laws of CLEVR: what its authors publish is read as it stands, split by scene, and a bad file is told what is bad."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest
import torch

from lxcompress.data.clevr import TOKEN_LIMIT, answer_text, read_questions
from lxcompress.data.objects import ANSWERS, ATTRIBUTES, FEATURES
from lxcompress.data.split import AnswerTask, Split
from lxcompress.data.tasks import load_task
from lxcompress.errors import DataError
from lxcompress.recipe import ClevrData
from tests.real import real

INFO = {"split": "train", "license": "Creative Commons Attribution (CC-BY 4.0)", "version": "1.0", "date": "2/14/2017"}
ASKED = [
    ("Is there a big red metal cube?", True),
    ("Are there more small things than big spheres?", False),
    ("How many things are there?", 1),
    ("How many cyan balls are there?", 0),
    ("How many small cylinders are there?", 10),
    ("What color is the small rubber sphere?", "gray"),
    ("What size is the cube?", "large"),
    ("What is the sphere made of?", "rubber"),
    ("What shape is the small thing?", "cylinder"),
]
SLICE = ("CLEVR_train_scenes_1000.json.gz", "CLEVR_train_questions_official_generator_seed2-3_noprogram.json.gz")


def thing(number: int) -> dict[str, Any]:
    """An object as CLEVR writes one; its attributes and its place follow from its number."""
    return {name: names[number % len(names)] for name, names in ATTRIBUTES.items()} | {
        "3d_coords": [number / 4 - 1, 1 - number / 3, 0.35],
        "pixel_coords": [40 + 30 * (number % 13), 120 + 7 * (number % 9), 9.0 + number / 10],
        "rotation": 12.5 * number,
    }


def scene(image: int) -> dict[str, Any]:
    objects = [thing(3 * image + index) for index in range(1 + image % 4)]
    return {
        "split": "train",
        "image_index": image,
        "image_filename": f"CLEVR_train_{image:06d}.png",
        "objects": objects,
        "relationships": {side: [[] for _ in objects] for side in ("left", "right", "front", "behind")},
        "directions": {"left": [-0.65, -0.75, 0.0], "right": [0.65, 0.75, 0.0]},
    }


def question(image: int, place: int) -> dict[str, Any]:
    words, answer = ASKED[place % len(ASKED)]
    return {
        "split": "train",
        "image_index": image,
        "image_filename": f"CLEVR_train_{image:06d}.png",
        "question_index": place,
        "question_family_index": place % 90,
        "question": words,
        "answer": answer,
    }


def scenes_file(count: int, first: int = 0) -> dict[str, Any]:
    return {"info": INFO, "scenes": [scene(image) for image in range(first, first + count)]}


def questions_file(count: int, each: int = 9, first: int = 0) -> dict[str, Any]:
    numbers = [(image, index) for image in range(first, first + count) for index in range(each)]
    return {"info": INFO, "questions": [question(image, image + place) for image, place in numbers]}


def write(path: Path, document: Any) -> Path:
    text = json.dumps(document).encode()
    path.write_bytes(gzip.compress(text) if path.suffix == ".gz" else text)
    return path


def settings(folder: Path, scenes: Any = None, questions: Any = None, suffix: str = "", **fields: Any) -> ClevrData:
    """The data section of a recipe over small files: by default, 8 scenes of 9 questions, 2 scenes held out."""
    return ClevrData(
        kind="clevr",
        scenes=write(folder / f"scenes.json{suffix}", scenes or scenes_file(8)),
        questions=write(folder / f"questions.json{suffix}", questions or questions_file(8)),
        **({} if "valid_scenes" in fields else {"holdout": 2}) | fields,
    )


def complain(data: ClevrData) -> str:
    """The one sentence that loading ends with."""
    with pytest.raises(DataError) as caught:
        load_task(data)
    said = str(caught.value)
    assert said.count("\n") == 0
    assert "tuple.index" not in said
    return said


def answers_of(split: Split) -> list[str]:
    return [ANSWERS[int(label)] for label in split.answers[:, 0]]


def scenes_of(split: Split) -> set[bytes]:
    return {split.regions.features[row].numpy().tobytes() for row in split.scene}


def same(first: AnswerTask, second: AnswerTask) -> bool:
    """Whether two tasks hold the same, number for number."""
    pairs = ((first.train, second.train), (first.valid, second.valid))
    return first.labels == second.labels and all(
        torch.equal(getattr(a, name), getattr(b, name))
        for one, two in pairs
        for a, b, names in (
            (one, two, ("input_ids", "scene", "answers", "credits")),
            (one.regions, two.regions, ("features", "boxes", "objects")),
        )
        for name in names
    )


@pytest.mark.parametrize(
    ("answer", "text"),
    [(True, "yes"), (False, "no"), (1, "1"), (0, "0"), ("1", "1"), ("yes", "yes"), ("cube", "cube"), (10, "10")],
)
def test_true_and_false_are_words_and_one_and_zero_are_numbers(answer, text, tmp_path) -> None:
    assert answer_text(answer) == text
    asked = write(tmp_path / "q.json", {"questions": [question(0, 0) | {"answer": answer}]})
    assert [list(question.credits) for question in read_questions(asked)] == [[text]]


@pytest.mark.parametrize("test", [1, 9, 12, 45])
def test_a_test_split_is_about_scenes_that_nothing_else_is_about(test, tmp_path) -> None:
    without, found = load_task(settings(tmp_path, holdout=6)), load_task(settings(tmp_path, holdout=6, test=test))
    assert found.test is not None
    assert len(found.test) == test
    scenes = [scenes_of(split) for split in found.splits]
    assert len(scenes[0] | scenes[1] | scenes[2]) == sum(map(len, scenes)) == 8
    assert torch.equal(found.train.input_ids, without.train.input_ids)
    kept = len(found.valid)
    assert kept == 54 - 9 * len(scenes[2])
    assert torch.equal(found.valid.answers, without.valid.answers[:kept])  # the first ones validate, as before


@pytest.mark.parametrize(("test", "most"), [(46, 45), (54, 45), (1000, 45)])
def test_a_test_split_leaves_scenes_to_validate(test, most, tmp_path) -> None:
    said = complain(settings(tmp_path, holdout=6, test=test))
    assert f"too few to hold {test:,} out" in said
    assert f"a data.test of at most {most}" in said


def test_every_question_keeps_its_own_answer_and_type(tmp_path) -> None:
    task = load_task(settings(tmp_path))
    for split, images in ((task.train, range(6)), (task.valid, range(6, 8))):
        wanted = [question(image, image + index)["answer"] for image in images for index in range(9)]
        assert answers_of(split) == [answer_text(answer) for answer in wanted]
        kind = {bool: "yes/no", int: "number", str: "other"}
        assert list(split.types) == [kind[type(answer)] for answer in wanted]
        assert bool((split.credits == 1).all())


def test_gzip_and_plain_give_the_same_task(tmp_path) -> None:
    assert same(load_task(settings(tmp_path)), load_task(settings(tmp_path, suffix=".gz")))
    assert not same(load_task(settings(tmp_path)), load_task(settings(tmp_path, questions=questions_file(8, each=8))))


def test_the_order_of_the_scenes_in_their_file_does_not_matter(tmp_path) -> None:
    turned = scenes_file(8)
    turned["scenes"].reverse()
    straight, reversed_ = load_task(settings(tmp_path)), load_task(settings(tmp_path, scenes=turned))
    for one, two in ((straight.train, reversed_.train), (straight.valid, reversed_.valid)):
        rows = torch.arange(len(one))
        assert all(torch.equal(a, b) for a, b in zip(one.inputs(rows), two.inputs(rows), strict=True))
        assert answers_of(one) == answers_of(two)


@pytest.mark.parametrize("holdout", [1, 3, 7])
def test_no_scene_is_in_both_splits(holdout, tmp_path) -> None:
    task = load_task(settings(tmp_path, holdout=holdout))
    assert len(scenes_of(task.train)) == 8 - holdout
    assert len(scenes_of(task.valid)) == holdout
    assert not scenes_of(task.train) & scenes_of(task.valid)
    assert len(task.train) + len(task.valid) == 72


def test_limits_cut_questions_and_nothing_else(tmp_path) -> None:
    whole, cut = load_task(settings(tmp_path)), load_task(settings(tmp_path, max_train=10, max_valid=4))
    assert (len(cut.train), len(cut.valid)) == (10, 4)
    assert answers_of(cut.train) == answers_of(whole.train)[:10]
    rows = torch.arange(4)
    assert all(torch.equal(a, b) for a, b in zip(cut.valid.inputs(rows), whole.valid.inputs(rows), strict=True))


def test_features_and_boxes_are_those_of_the_scene(tmp_path) -> None:
    task = load_task(settings(tmp_path))
    assert task.feature_size == FEATURES
    for row, index in enumerate(task.train.scene):
        objects = scene(row // 9)["objects"]
        assert int(task.train.regions.objects[index]) == len(objects)
        for number, each in enumerate(objects):
            one_hot = [float(value == each[name]) for name, names in ATTRIBUTES.items() for value in names]
            expected = torch.tensor(one_hot + [value / 3 for value in each["3d_coords"]])
            torch.testing.assert_close(task.train.regions.features[index, number], expected)
            x1, y1, x2, y2 = (float(value) for value in task.train.regions.boxes[index, number])
            x, y, _ = each["pixel_coords"]
            assert 0 <= x1 < x / 480 < x2 <= 1
            assert 0 <= y1 < y / 320 < y2 <= 1
        assert not bool(task.train.regions.features[index, len(objects) :].any())
        assert not bool(task.train.regions.boxes[index, len(objects) :].any())


def test_a_nearer_object_has_the_larger_box(tmp_path) -> None:
    near, far = (thing(0) | {"pixel_coords": [240, 160, depth]} for depth in (7.0, 14.0))
    task = load_task(
        settings(
            tmp_path,
            scenes={"scenes": [scene(0) | {"objects": [near, far]}, scene(1), scene(2)]},
            questions=questions_file(3),
            holdout=1,
        )
    )
    width = (task.train.regions.boxes[0, :, 2] - task.train.regions.boxes[0, :, 0]).tolist()
    assert width[0] == pytest.approx(2 * width[1])


def test_validation_files_are_the_validation_split(tmp_path) -> None:
    data = settings(
        tmp_path,
        valid_scenes=write(tmp_path / "valid-scenes.json", scenes_file(3, first=20)),
        valid_questions=write(tmp_path / "valid-questions.json.gz", questions_file(3, each=5, first=20)),
    )
    task = load_task(data)
    assert (len(task.train), len(task.valid)) == (72, 15)
    assert (len(scenes_of(task.train)), len(scenes_of(task.valid))) == (8, 3)


def test_a_missing_file_names_the_setting(tmp_path) -> None:
    data = settings(tmp_path)
    for key in ("scenes", "questions"):
        said = complain(data.model_copy(update={key: tmp_path / "absent.json"}))
        assert said.startswith(f"{tmp_path / 'absent.json'}: no such file")
        assert f"--set data.{key}=PATH" in said


@pytest.mark.parametrize("key", ["scenes", "questions"])
@pytest.mark.parametrize(
    "damage",
    [
        lambda data: data[: len(data) // 2],
        lambda data: data[:-4],
        lambda data: data[:40] + bytes(20) + data[60:],
        lambda data: b"",
        lambda data: b"<html>not found</html>",
        lambda data: b"\xff\xfe\x00",
        lambda data: gzip.compress(b'{"scenes": ['),
    ],
    ids=["half", "no-end", "zeros", "empty", "html", "binary", "cut-json"],
)
def test_a_damaged_file_is_named(key, damage, tmp_path) -> None:
    data = settings(tmp_path, suffix=".gz")
    path = getattr(data, key)
    path.write_bytes(damage(path.read_bytes()))
    said = complain(data)
    assert said.startswith(f"{path}: is damaged or not JSON")
    assert "download it again" in said


@pytest.mark.parametrize("document", [[], {}, {"scenes": []}, {"scenes": {"0": 1}}, 3, {"questions": [question(0, 0)]}])
def test_json_of_another_kind_is_refused(document, tmp_path) -> None:
    data = settings(tmp_path)
    write(data.scenes, document)
    assert f"{data.scenes}: has no list of scenes; give CLEVR's scenes JSON" in complain(data)


def test_a_question_about_a_missing_scene_names_both_files(tmp_path) -> None:
    data = settings(tmp_path, questions=questions_file(10))
    said = complain(data)
    assert "asks about 2 images" in said
    assert "2 images (8, 9)" in said
    assert str(data.questions) in said
    assert str(data.scenes) in said


def test_a_question_about_a_missing_validation_scene_names_the_validation_files(tmp_path) -> None:
    data = settings(
        tmp_path,
        valid_scenes=write(tmp_path / "valid-scenes.json", scenes_file(2)),
        valid_questions=write(tmp_path / "valid-questions.json", questions_file(3)),
    )
    said = complain(data)
    assert "asks about image 2 that" in said
    assert "valid-questions.json" in said
    assert "valid-scenes.json" in said


def test_the_test_split_is_told_that_it_has_no_answers(tmp_path) -> None:
    asked = questions_file(8)
    for each in asked["questions"]:
        del each["answer"]
    said = complain(settings(tmp_path, questions=asked))
    assert "question 0 has no answer" in said
    assert "give train or val" in said


@pytest.mark.parametrize("answer", ["maybe", 11, -1, 1.5, None, "Yes", [1]])
def test_an_answer_that_clevr_has_not_is_named(answer, tmp_path) -> None:
    asked = questions_file(8)
    asked["questions"][5]["answer"] = answer
    said = complain(settings(tmp_path, questions=asked))
    assert f"question 5 has the answer {answer!r}" in said


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"color": "orange"}, "'orange'"),
        ({"shape": "Cube"}, "'Cube'"),
        ({"size": None}, "None"),
        ({"material": 3}, "3"),
        ({"3d_coords": [1, 2]}, "3d_coords"),
        ({"3d_coords": 1}, "3d_coords"),
        ({"pixel_coords": "far"}, "pixel_coords"),
        ({"pixel_coords": [240, 160, 0]}, "position"),
        ({"3d_coords": [0, float("nan"), 1]}, "position"),
        ({"pixel_coords": [float("nan"), 160, 9]}, "position"),
    ],
)
@pytest.mark.parametrize("image", [2, 7])
def test_an_object_that_is_none_of_clevrs_is_named_with_its_file(change, named, image, tmp_path) -> None:
    given = scenes_file(8)
    given["scenes"][image]["objects"][1 - image % 2].update(change)
    data = settings(tmp_path, scenes=given)
    said = complain(data)
    assert said.startswith(f"{data.scenes}: object {1 - image % 2} of image_index {image} ")
    assert named in said


def test_an_object_that_lacks_an_attribute_is_told_which(tmp_path) -> None:
    given = scenes_file(8)
    del given["scenes"][2]["objects"][1]["material"]
    assert "material" in complain(settings(tmp_path, scenes=given))


def test_a_bad_object_of_the_validation_scenes_names_their_file(tmp_path) -> None:
    given = scenes_file(2)
    given["scenes"][1]["objects"][0]["color"] = "orange"
    path = write(tmp_path / "valid-scenes.json", given)
    data = settings(
        tmp_path, valid_scenes=path, valid_questions=write(tmp_path / "valid-questions.json", questions_file(2))
    )
    assert complain(data).startswith(f"{path}: object 0 of image_index 1 ")


def test_a_scene_that_comes_twice_is_refused(tmp_path) -> None:
    given = scenes_file(8)
    given["scenes"].append(scene(3))
    assert "image_index 3 comes twice" in complain(settings(tmp_path, scenes=given))


def test_a_scene_without_objects_is_refused(tmp_path) -> None:
    given = scenes_file(8)
    given["scenes"][4]["objects"] = []
    assert "image_index 4 has no object" in complain(settings(tmp_path, scenes=given))


@pytest.mark.parametrize("holdout", [8, 150])
def test_a_holdout_that_leaves_no_training_scene_says_what_fits(holdout, tmp_path) -> None:
    said = complain(settings(tmp_path, holdout=holdout))
    assert f"has 8 scenes, too few to hold {holdout} out" in said
    assert "--set data.holdout=1" in said
    load_task(settings(tmp_path, holdout=1))


def test_a_holdout_without_questions_is_refused(tmp_path) -> None:
    assert "no question is left" in complain(settings(tmp_path, questions=questions_file(6)))


@pytest.fixture(scope="module")
def published() -> tuple[ClevrData, AnswerTask]:
    """The slice of CLEVR, where it is at hand."""
    scenes, questions = (real("clevr", name) for name in SLICE)
    data = ClevrData(kind="clevr", scenes=scenes, questions=questions)
    return data, load_task(data)


def test_the_slice_is_whole(published) -> None:
    _, task = published
    assert len(scenes_of(task.train)) + len(scenes_of(task.valid)) == 1000
    assert len(task.train) + len(task.valid) == 39_524
    assert len(task.valid.regions.features) == 150
    assert not scenes_of(task.train) & scenes_of(task.valid)


def test_no_word_of_the_slice_is_unknown_and_none_is_cut(published) -> None:
    _, task = published
    unknown, end = (task.vocabulary.index(token) for token in ("[UNK]", "[SEP]"))
    for split in (task.train, task.valid):
        assert not bool((split.input_ids == unknown).any())
        last = (split.input_ids != 0).sum(1) - 1
        assert bool((split.input_ids.gather(1, last[:, None]) == end).all())
        assert split.input_ids.shape[1] < TOKEN_LIMIT


def test_the_answers_of_the_slice_are_those_of_its_file(published) -> None:
    data, task = published
    asked = json.loads(gzip.decompress(data.questions.read_bytes()))["questions"]
    given = [question["answer"] for question in asked]
    answers = answers_of(task.train) + answers_of(task.valid)
    assert set(answers) <= set(ANSWERS)
    for text, value in (("yes", True), ("no", False), ("1", 1), ("0", 0)):
        assert answers.count(text) == sum(
            (type(answer) is type(value) and answer == value) or answer == text for answer in given
        )
    kinds = task.train.types + task.valid.types
    assert sum(kinds.count(kind) for kind in ("yes/no", "number", "other")) == len(given)
    assert kinds.count("yes/no") == answers.count("yes") + answers.count("no")


def test_the_boxes_of_the_slice_lie_in_their_image(published) -> None:
    _, task = published
    for split in (task.train, task.valid):
        present = torch.arange(split.regions.boxes.shape[1]) < split.regions.objects[:, None]
        boxes = split.regions.boxes[present]
        assert bool((boxes >= 0).all())
        assert bool((boxes <= 1).all())
        assert bool((boxes[:, :2] < boxes[:, 2:]).all())
        assert not bool(split.regions.boxes[~present].any())


def test_left_and_right_of_the_slice_agree_with_its_boxes(published) -> None:
    data, task = published
    scenes = json.loads(gzip.decompress(data.scenes.read_bytes()))["scenes"]
    agreed = total = 0
    for row, each in enumerate(sorted(scenes, key=lambda scene: scene["image_index"])[-150:]):
        centre = (task.valid.regions.boxes[row, :, 0] + task.valid.regions.boxes[row, :, 2]).tolist()
        assert int(task.valid.regions.objects[row]) == len(each["objects"])
        for index, lefts in enumerate(each["relationships"]["left"]):
            agreed += sum(centre[left] < centre[index] for left in lefts)
            total += len(lefts)
    assert total > 1000
    assert agreed / total > 0.95
