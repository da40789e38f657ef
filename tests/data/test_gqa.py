"""Laws of GQA: the official questions and LXMERT's JSON ask the same, and all questions of a file are kept."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from lxcompress.data.gqa import read_gqa
from lxcompress.errors import DataError
from lxcompress.recipe import GqaData
from tests.data.trimmed import TrimmedQuestions, trim
from tests.real import real

ANSWERS = ("yes", "no", "picture", "left")
STRUCTURAL = ("verify", "query", "choose", "logical", "compare")


def official(numbers: Iterable[int]) -> dict[str, Any]:
    return {
        str(n): {
            "semantic": [{"operation": "select", "dependencies": [], "argument": f"sky ({n})"}],
            "entailed": [str(n + 1)],
            "equivalent": [str(n)],
            "question": f"Is it {n}?",
            "imageId": f"n{n // 3}",
            "isBalanced": n % 2 == 0,
            "groups": {"global": None, "local": "14-sky"},
            "answer": ANSWERS[n % 4],
            "semanticStr": "select: sky",
            "annotations": {"answer": {"0": str(n)}, "question": {}, "fullAnswer": {}},
            "types": {"detailed": "existAttr", "semantic": "obj", "structural": STRUCTURAL[n % 5]},
            "fullAnswer": "Yes, it is.",
        }
        for n in numbers
    }


def lxmert(numbers: Iterable[int]) -> list[dict[str, Any]]:
    """The same questions as LXMERT's JSON has them."""
    return [
        {"img_id": f"n{n // 3}", "label": {ANSWERS[n % 4]: 1.0}, "question_id": str(n), "sent": f"Is it {n}?"}
        for n in numbers
    ]


def write(path: Path, document: Any) -> Path:
    text = json.dumps(document).encode()
    path.write_bytes(gzip.compress(text) if path.suffix == ".gz" else text)
    return path


def settings(folder: Path, make: Any = official, suffix: str = "", **fields: Any) -> GqaData:
    files = {
        "train": write(folder / f"{make.__name__}-train.json{suffix}", make(range(30))),
        "valid": write(folder / f"{make.__name__}-valid.json{suffix}", make(range(30, 40))),
    }
    return GqaData(kind="gqa", **(files | fields))


def read(data: GqaData) -> TrimmedQuestions:
    return trim(read_gqa(data))


def complain(data: GqaData) -> str:
    """The one sentence that reading ends with."""
    with pytest.raises(DataError) as caught:
        read(data)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_official_files_and_lxmerts_json_ask_the_same_but_for_the_type(tmp_path) -> None:
    one, two = read(settings(tmp_path)), read(settings(tmp_path, lxmert))
    assert one.labels == two.labels
    for official_split, split in ((one.train, two.train), (one.valid, two.valid)):
        assert tuple(replace(question, type="all") for question in official_split) == split


def test_packed_and_plain_files_ask_the_same(tmp_path) -> None:
    for make in (official, lxmert):
        assert read(settings(tmp_path, make, ".gz")) == read(settings(tmp_path, make))


def test_every_question_is_kept_in_order_with_its_own_image_answer_and_type(tmp_path) -> None:
    asked = read(settings(tmp_path))
    assert [question.id for question in (*asked.train, *asked.valid)] == [str(n) for n in range(40)]
    for number, question in enumerate((*asked.train, *asked.valid)):
        assert question.words == f"Is it {number}?"
        assert question.images == (f"n{number // 3}",)
        assert question.credits == {ANSWERS[number % 4]: 1.0}
        assert question.type == STRUCTURAL[number % 5]


def test_a_folder_of_files_is_one_split(tmp_path) -> None:
    whole = read(settings(tmp_path))
    folder = tmp_path / "train_all_questions"
    folder.mkdir()
    for part, numbers in enumerate((range(10), range(10, 30))):
        write(folder / f"train_all_questions_{part}.json", official(numbers))
    assert read(settings(tmp_path, train=folder)) == whole
    assert "is a folder without a .json file" in complain(settings(tmp_path, train=_empty(tmp_path)))


def test_the_vocabulary_is_every_training_answer_or_the_given_one(tmp_path) -> None:
    assert set(read(settings(tmp_path)).labels) == set(ANSWERS)
    given = write(tmp_path / "ans2label.json", {"no": 1, "yes": 0, "picture": 2})
    asked = read(settings(tmp_path, answers=given))
    assert asked.labels == ("yes", "no", "picture")
    assert sum(not question.credits for question in asked.train) == sum(n % 4 == 3 for n in range(30))
    other = write(tmp_path / "other.json", ["yes", "cat"])
    said = complain(settings(tmp_path, answers=other))
    assert said.startswith(f"{other}: has an answer to 26.7 % (train) and 20 % (valid)")


def test_questions_without_answers_have_no_credits(tmp_path) -> None:
    bare = {
        key: {name: value for name, value in record.items() if name in ("question", "imageId", "isBalanced")}
        for key, record in official(range(30, 40)).items()
    }
    path = write(tmp_path / "test.json", bare)
    asked = read(settings(tmp_path, valid=path))
    assert {(len(question.credits), question.type) for question in asked.valid} == {(0, "all")}
    assert "has no answers to learn from" in complain(
        settings(tmp_path, train=path, valid=write(tmp_path / "v.json", official(range(3))))
    )


def test_a_question_in_both_splits_is_a_leak(tmp_path) -> None:
    said = complain(settings(tmp_path, valid=write(tmp_path / "v.json", lxmert(range(28, 33)))))
    assert "2 question ids (28, 29) are in" in said


def test_a_question_that_comes_twice_is_named_with_its_files(tmp_path) -> None:
    data, again = settings(tmp_path), write(tmp_path / "again.json", lxmert([50, 7]))
    said = complain(data.model_copy(update={"train": (*data.train, again)}))
    assert said.startswith(f"{data.train[0]} and {again}: question id 7 comes twice")


@pytest.mark.parametrize(
    "change",
    [{"imageId": None}, {"imageId": 1.5}, {"question": None}, {"answer": 3}, {"types": {"structural": 3}}],
)
def test_a_bad_official_question_is_named_by_its_id(change, tmp_path) -> None:
    document = official(range(30))
    document["7"] |= change
    path = write(tmp_path / "bad.json", document)
    assert complain(settings(tmp_path, train=path)).startswith(f"{path}: question 7 is ")


@pytest.mark.parametrize("change", [{"img_id": None}, {"sent": 3}, {"label": "yes"}, {"question_id": None}])
def test_a_bad_record_of_lxmerts_is_named_by_its_place(change, tmp_path) -> None:
    document = lxmert(range(30))
    document[7] |= change
    path = write(tmp_path / "bad.json", document)
    assert complain(settings(tmp_path, train=path)).startswith(f"{path}: question 7 is ")


@pytest.mark.parametrize("document", [3, {}, [], [3], {"questions": []}, {"2354786": {"width": 500, "objects": {}}}])
def test_json_of_another_kind_is_refused(document, tmp_path) -> None:
    path = write(tmp_path / "other.json", document)
    assert complain(settings(tmp_path, train=path)).startswith(f"{path}: ")


def test_published_questions_are_read() -> None:
    asked = read(
        GqaData(
            kind="gqa",
            train=real("gqa", "questions0.json"),
            valid=real("gqa", "questions1.json"),
            answers=real("vocab", "gqa_trainval_ans2label.json"),
        )
    )
    assert len(asked.labels) == 1_842
    (one,), (two,) = asked.train, asked.valid
    assert (one.id, one.images, one.type) == ("202218649", ("n578564",), "query")
    assert (one.words, one.credits) == ("What is hanging above the chalkboard?", {"picture": 1.0})
    assert (two.id, two.images, two.type, two.credits) == ("20240871", ("n166008",), "logical", {"yes": 1.0})


def _empty(folder: Path) -> Path:
    path = folder / "empty"
    path.mkdir()
    return path
