"""Laws of VQA: official files and LXMERT's JSON ask the same, labels are made as LXMERT's were, splits are apart."""

from __future__ import annotations

import gzip
import json
import zipfile
from collections import Counter
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from lxcompress.data.vqa import image_name, read_annotations, read_vqa, soft_label
from lxcompress.data.vqa_score import normalise
from lxcompress.errors import DataError
from lxcompress.recipe import VqaData
from tests.data.trimmed import TrimmedQuestions, trim
from tests.real import real

WRAPPER = {"info": {"version": "2.0"}, "task_type": "Open-Ended", "data_type": "mscoco", "license": {}}
GIVEN = (["yes"] * 10, ["2"] * 7 + ["3"] * 3, ["red"] * 4 + ["dark red", "maroon"] * 3, ["net"] * 9 + ["netting"])
TYPES = ("yes/no", "number", "other", "other")
LABELS = ("", "yes", "2", "3", "red", "net")
Folder = Path


def questions(numbers: Sequence[int], subtype: str = "train2014") -> dict[str, Any]:
    asked = [{"image_id": n // 10, "question": f"What is {n}?", "question_id": n} for n in numbers]
    return WRAPPER | {"data_subtype": subtype, "questions": asked}


def annotations(numbers: Sequence[int], subtype: str = "train2014") -> dict[str, Any]:
    return WRAPPER | {"data_subtype": subtype, "annotations": [annotation(n) for n in numbers]}


def annotation(number: int) -> dict[str, Any]:
    given = GIVEN[number % 4]
    return {
        "question_type": "what is",
        "multiple_choice_answer": given[0],
        "answers": [
            {"answer": answer, "answer_confidence": "maybe", "answer_id": index}
            for index, answer in enumerate(given, 1)
        ],
        "image_id": number // 10,
        "answer_type": TYPES[number % 4],
        "question_id": number,
    }


def lxmert(numbers: Sequence[int], subtype: str = "train2014", labels: Sequence[str] = LABELS) -> list[dict[str, Any]]:
    """The same questions as LXMERT's JSON has them."""
    return [
        {
            "answer_type": TYPES[n % 4],
            "img_id": f"COCO_{subtype}_{n // 10:012d}",
            "label": {
                answer: {1: 0.3, 2: 0.6, 3: 0.9}.get(count, 1)
                for answer, count in sorted(Counter(GIVEN[n % 4]).items())
                if answer in labels
            },
            "question_id": n,
            "question_type": "what is",
            "sent": f"What is {n}?",
        }
        for n in numbers
    ]


def write(path: Path, document: Any) -> Path:
    text = json.dumps(document).encode()
    if path.suffix == ".zip":
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("v2_mscoco.json", text)
    else:
        path.write_bytes(gzip.compress(text) if path.suffix == ".gz" else text)
    return path


def official(
    folder: Path, trained: Any = range(40), tested: Any = range(100, 120), suffix: str = "", **fields: Any
) -> VqaData:
    """The data section over official files; `trained` and `tested` are question ids."""
    files = {
        "train": write(folder / f"q-train.json{suffix}", questions(trained)),
        "train_annotations": write(folder / f"a-train.json{suffix}", annotations(trained)),
        "valid": write(folder / f"q-valid.json{suffix}", questions(tested, "val2014")),
        "valid_annotations": write(folder / f"a-valid.json{suffix}", annotations(tested, "val2014")),
        "answers": write(folder / "ans2label.json", {answer: label for label, answer in enumerate(LABELS)}),
    }
    return VqaData(kind="vqa", **{name: value for name, value in (files | fields).items() if value is not None})


def redistributed(folder: Path, trained: Any = range(40), tested: Any = range(100, 120), **fields: Any) -> VqaData:
    """The data section over LXMERT's JSON."""
    files = {
        "train": write(folder / "train.json", lxmert(trained)),
        "valid": write(folder / "minival.json", lxmert(tested, "val2014")),
        "answers": write(folder / "label2ans.json", list(LABELS)),
    }
    return VqaData(kind="vqa", **{name: value for name, value in (files | fields).items() if value is not None})


def read(data: VqaData) -> TrimmedQuestions:
    return trim(read_vqa(data))


def complain(data: VqaData) -> str:
    """The one sentence that reading ends with."""
    with pytest.raises(DataError) as caught:
        read(data)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_official_files_and_lxmerts_json_ask_the_same(tmp_path) -> None:
    one, two = read(official(tmp_path)), read(redistributed(tmp_path))
    assert one == two
    assert [list(question.credits) for question in one.train] == [list(question.credits) for question in two.train]


@pytest.mark.parametrize("suffix", [".gz", ".zip"])
def test_packed_and_plain_files_ask_the_same(suffix, tmp_path) -> None:
    assert read(official(tmp_path, suffix=suffix)) == read(official(tmp_path))


def test_order_is_kept_and_every_question_keeps_its_own_answer_and_image(tmp_path) -> None:
    numbers = [7, 3, 39, 12, 0]
    data = official(tmp_path, trained=numbers)
    write(data.train_annotations[0], annotations(sorted(numbers)))
    asked = read(data)
    assert [question.id for question in asked.train] == numbers
    for question in asked.train:
        assert question.words == f"What is {question.id}?"
        assert question.images == (f"COCO_train2014_{question.id // 10:012d}",)
        assert question.type == TYPES[question.id % 4]
        assert question.credits == {a: c for a, c in soft_label(GIVEN[question.id % 4]).items() if a in LABELS}


def test_several_files_are_one_split(tmp_path) -> None:
    whole = read(official(tmp_path))
    halves = [
        (write(tmp_path / f"q{n}.json", questions(part)), write(tmp_path / f"a{n}.json", annotations(part)))
        for n, part in enumerate((range(25), range(25, 40)))
    ]
    asked, answered = zip(*halves, strict=True)
    assert read(official(tmp_path, train=asked, train_annotations=answered)) == whole
    nominival = write(tmp_path / "nominival.json", lxmert(range(25, 40)))
    mixed = official(tmp_path, train=(asked[0], nominival), train_annotations=answered[0])
    assert read(mixed) == whole


def test_a_credit_is_three_tenths_an_answer_up_to_one() -> None:
    credits = [soft_label(["a"] * count + ["b"] * (10 - count))["a"] for count in range(1, 11)]
    assert credits == [0.3, 0.6, 0.9] + [1.0] * 7
    assert all(one <= two for one, two in pairwise(credits))
    assert soft_label(["b", "a", "b"]) == soft_label(["b", "b", "a"]) == {"a": 0.3, "b": 0.6}


def test_answers_are_counted_as_they_are_written() -> None:
    assert soft_label(["none"] * 6 + ["0"] * 4) == {"0": 1.0, "none": 1.0}


@pytest.mark.parametrize("least", [1, 9, 10, 11])
def test_the_vocabulary_is_what_is_commonest_often_enough(least, tmp_path) -> None:
    # Ids 0, 4, 8 ... are yes, 11 of them; 1, 5 ... are 2; 2, 6 ... red; 3, 7 ... net: 10 each of the first 41 ids.
    asked = read(official(tmp_path, trained=range(41), answers=None, least_answers=least))
    assert asked.labels == (("yes", "2", "net", "red") if least < 11 else ("yes",))
    assert {answer for question in asked.train for answer in question.credits} <= set(asked.labels)


def test_the_vocabulary_is_normalised_and_credits_are_not(tmp_path) -> None:
    data = official(tmp_path, answers=None, least_answers=1)
    document = annotations(range(40))
    document["annotations"][0]["multiple_choice_answer"] = "The One-Way"
    write(data.train_annotations[0], document)
    assert "1 way" in read(data).labels


def test_nine_is_the_default(tmp_path) -> None:
    made = read(official(tmp_path, trained=range(37), answers=None))
    assert made.labels == ("yes", "2", "net", "red")
    assert "no answer is the most frequent one of 9" in complain(official(tmp_path, trained=range(32), answers=None))


def test_without_a_vocabulary_lxmerts_credits_make_one(tmp_path) -> None:
    assert read(redistributed(tmp_path, answers=None)).labels == ("2", "3", "net", "red", "yes")


def test_a_test_split_has_no_credits(tmp_path) -> None:
    asked = read(official(tmp_path, valid_annotations=None))
    assert {(len(question.credits), question.type) for question in asked.valid} == {(0, "unknown")}
    bare = [{name: record[name] for name in ("question_id", "img_id", "sent")} for record in lxmert(range(100, 120))]
    assert not any(q.credits for q in read(redistributed(tmp_path, valid=(write(tmp_path / "t", bare),))).valid)


def test_multiple_choices_are_kept_as_published(tmp_path) -> None:
    data = official(tmp_path)
    document = questions(range(40))
    for record in document["questions"]:
        record["multiple_choices"] = ["yes", "1 way", f"no {record['question_id']}"]
    write(data.train[0], document)
    asked = read(data)
    assert [question.choices for question in asked.train] == [("yes", "1 way", f"no {number}") for number in range(40)]
    assert {question.choices for question in asked.valid} == {()}


@pytest.mark.parametrize(
    ("kind", "subtype", "name"),
    [
        ("mscoco", "train2014", "COCO_train2014_000000458752"),
        ("mscoco", "test-dev2015", "COCO_test2015_000000458752"),
        ("abstract_v002", "train2015", "abstract_v002_train2015_000000458752"),
        (None, "train2014", "458752"),
        ("mscoco", None, "458752"),
    ],
)
def test_images_are_named_as_their_files_are(kind, subtype, name) -> None:
    assert image_name({"data_type": kind, "data_subtype": subtype}, 458752) == name


def test_a_question_in_both_splits_is_a_leak(tmp_path) -> None:
    for make in (official, redistributed):
        said = complain(make(tmp_path, tested=range(38, 50)))
        assert "2 question ids (38, 39) are in" in said


def test_a_question_that_comes_twice_is_named_with_its_files(tmp_path) -> None:
    data = official(tmp_path, trained=[3, 1, 3])
    write(data.train_annotations[0], annotations([1, 3]))
    assert complain(data).startswith(f"{data.train[0]}: question id 3 comes twice")
    data = redistributed(tmp_path)
    again = write(tmp_path / "again.json", lxmert([50, 7]))
    said = complain(data.model_copy(update={"train": (*data.train, again)}))
    assert said.startswith(f"{data.train[0]} and {again}: question id 7 comes twice")
    assert complain(data.model_copy(update={"train": (again, again)})).startswith(
        f"{again}: 2 question ids (50, 7) come twice"
    )


def test_questions_and_annotations_must_be_of_the_same_split(tmp_path) -> None:
    data = official(tmp_path)
    write(data.valid_annotations[0], annotations(range(100, 118)))
    said = complain(data)
    assert said.startswith(
        f"{data.valid[0]}: asks 2 questions (118, 119) that {data.valid_annotations[0]} does not answer"
    )
    write(data.valid_annotations[0], annotations(range(100, 123)))
    said = complain(data)
    assert said.startswith(
        f"{data.valid_annotations[0]}: answers 3 questions (120, 121, 122) that {data.valid[0]} does not ask"
    )
    write(data.valid_annotations[0], annotations([*range(100, 120), 103]))
    assert "annotates question id 103 twice" in complain(data)
    document = annotations(range(100, 120))
    document["annotations"][4]["image_id"] = 99
    write(data.valid_annotations[0], document)
    assert "question id 104 is about image 10, and in its annotation about 99" in complain(data)


def test_a_setting_without_effect_or_in_the_wrong_place_is_refused(tmp_path) -> None:
    answered = write(tmp_path / "a.json", annotations(range(40)))
    assert "has no effect" in complain(redistributed(tmp_path, train_annotations=answered))
    assert "give it as data.train_annotations" in complain(redistributed(tmp_path, train=answered))
    asked = write(tmp_path / "q.json", questions(range(40)))
    assert "has no list of annotations" in complain(official(tmp_path, train_annotations=asked))
    assert "give them as data.train_annotations" in complain(official(tmp_path, train_annotations=None))
    assert "give them as data.train_annotations" in complain(
        official(tmp_path, train_annotations=None, answers=None, least_answers=1)
    )


def test_the_vocabulary_of_another_data_set_is_refused(tmp_path) -> None:
    other = write(tmp_path / "other.json", ["yes", "cat", "dog"])
    for make in (official, redistributed):
        said = complain(make(tmp_path, answers=other))
        assert said.startswith(f"{other}: has an answer to 25 % (train) and 25 % (valid) of the questions")
    # Three answers of four types of question: most have one, and the others stay without a credit.
    most = write(tmp_path / "most.json", ["yes", "2", "red"])
    asked = read(redistributed(tmp_path, answers=most))
    assert sum(not question.credits for question in asked.train) == 10


@pytest.mark.parametrize("credit", [1.5, -0.1, True, "1", None, float("nan")])
def test_a_credit_that_is_none_is_named(credit, tmp_path) -> None:
    records = lxmert(range(40))
    records[5]["label"] = {"2": credit}
    assert "question id 5 credits '2' with" in complain(redistributed(tmp_path, train=write(tmp_path / "t", records)))


@pytest.mark.parametrize(
    "change", [{"question_id": None}, {"question_id": True}, {"img_id": 3}, {"sent": None}, {"label": ["yes"]}]
)
def test_a_bad_record_of_lxmerts_is_named_by_its_place(change, tmp_path) -> None:
    records = lxmert(range(40))
    records[7] |= change
    path = write(tmp_path / "bad.json", records)
    assert complain(redistributed(tmp_path, train=path)).startswith(f"{path}: question 7 is {{")


@pytest.mark.parametrize(
    "change",
    [{"question_id": 1.0}, {"image_id": None}, {"question": 5}, {"multiple_choices": [1]}, {"multiple_choices": "yes"}],
)
def test_a_bad_official_question_is_named_by_its_place(change, tmp_path) -> None:
    document = questions(range(40))
    document["questions"][7] |= change
    path = write(tmp_path / "bad.json", document)
    assert complain(official(tmp_path, train=path)).startswith(f"{path}: question 7 is {{")


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"answers": []}, "annotation 7 is"),
        ({"answers": "yes"}, "annotation 7 is"),
        ({"question_id": None}, "annotation 7 is"),
        ({"answers": [{"answer": 3, "answer_id": 1}]}, "question id 7 has"),
        ({"answers": [None]}, "question id 7 has null among its answers"),
    ],
)
def test_a_bad_annotation_is_named(change, named, tmp_path) -> None:
    document = annotations(range(40))
    document["annotations"][7] |= change
    path = write(tmp_path / "bad.json", document)
    said = complain(official(tmp_path, train_annotations=path))
    assert said.startswith(f"{path}: ")
    assert named in said


@pytest.mark.parametrize("document", [3, {}, {"questions": 3}, {"questions": []}, [], [3], {"questions": [3]}])
def test_json_of_another_kind_is_refused(document, tmp_path) -> None:
    path = write(tmp_path / "other.json", document)
    assert complain(redistributed(tmp_path, train=path)).startswith(f"{path}: ")


def slice_data(**fields: Any) -> VqaData:
    folder = real("vqa2")
    files = {
        f"{split}{kind}": folder / f"vqa_{name}_{split}.json.gz"
        for split in ("train", "valid")
        for kind, name in (("", "questions"), ("_annotations", "annotatons"))
    }
    return VqaData(kind="vqa", **files, **fields)


@pytest.fixture(scope="module")
def published() -> TrimmedQuestions:
    return read(slice_data(answers=real("vocab") / "vqa_trainval_ans2label.json"))


def test_the_slice_is_whole(published) -> None:
    assert (len(published.train), len(published.valid), len(published.labels)) == (48_061, 8_977, 3_129)
    assert published.labels[0] == ""
    kinds = Counter(question.type for question in published.train)
    assert kinds == {"number": 16_086, "yes/no": 16_033, "other": 15_942}


@pytest.mark.slow
def test_most_majority_answers_of_the_slice_have_a_label(published) -> None:
    files = slice_data()
    annotated = read_annotations([*(files.train_annotations or ()), *(files.valid_annotations or ())])
    known = set(published.labels)
    shares = [
        sum(say(each.majority) in known for each in annotated.values()) / len(annotated) for say in (str, normalise)
    ]
    assert [round(100 * share, 1) for share in shares] == [93.6, 93.9]
    assert all(normalise(label) == label for label in known)


@pytest.mark.slow
def test_a_vocabulary_made_of_the_slice_is_within_lxmerts(published) -> None:
    made = read(slice_data())
    assert set(made.labels) < set(published.labels)
    assert made.labels[:2] == ("yes", "no")


def test_records_without_types_and_commonest_answers_are_read() -> None:
    folder = real("vqa_records")
    data = slice_data(answers=real("vocab") / "vqa_trainval_ans2label.json").model_copy(
        update={"train": (folder / "questions.json",), "train_annotations": (folder / "annotations.json",)}
    )
    first = read(data).train[0]
    assert (first.images, first.type) == (("COCO_train2014_000000458752",), "unknown")
    assert first.credits == {"net": 1.0, "orange": 0.3, "pitcher": 0.3}


def test_labels_made_of_ten_answers_are_those_of_the_records() -> None:
    for record in json.loads((real("region_features") / "vqa2_questions.json").read_text()):
        assert soft_label(record["answers"]) == record["label"]


def test_lxmerts_labels_are_what_this_rule_can_make() -> None:
    known = set(json.loads((real("vocab") / "vqa_trainval_label2ans.json").read_text()))
    images = json.loads((real("lxmert_pretrain") / "mscoco_minival_withpi.json").read_text())
    labels = [label for image in images for label in image["labelf"].get("vqa", [])]
    assert len(labels) == 1546
    assert {credit for label in labels for credit in label.values()} == {0.3, 0.6, 0.9, 1}
    assert {answer for label in labels for answer in label} <= known
    # Answers are counted as written: what only normalising makes is nearly never credited (13 such would be expected).
    made = {
        "",
        "no 1",
        "black white",
        "left 1",
        "right 1",
        "1 on right",
        "1 on left",
        "1 way",
        "n",
        "red white and blue",
    }
    assert not made & {answer for label in labels for answer in label}
