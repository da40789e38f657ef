"""Laws of the VQA accuracy: the official figures row by row, and what follows from their definition."""

from __future__ import annotations

import gzip
import json
import random
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from lxcompress.data.scoring import ScoreFiles
from lxcompress.data.vqa_score import (
    CONTRACTIONS,
    HumanAnswers,
    QuestionIndex,
    check_choices,
    keep_predicted,
    mean_by,
    normalise,
    official_percent,
    read_annotations,
    read_predictions,
    read_questions,
    score_predictions,
    score_vqa_files,
    vqa_accuracy,
)
from lxcompress.errors import DataError
from tests.real import real

TEXTS = ["yes", "no", "Yes.", "the yes", "a", "", "2", "two", "1,000", "1,000-x", "dont", "don't", "red/white", "b. 5"]

ENDINGS = {"t", "ve", "d", "ll", "s", "re", "am", "clock", "at", "all"}
"""what follows the last apostrophe of a contraction"""


def write(path: Path, document: Any) -> Path:
    path.write_text(json.dumps(document), encoding="utf-8")
    return path


def record(answer: Any, number: int | None = None) -> dict[str, Any]:
    return {"answer": answer, "answer_confidence": "yes"} | ({} if number is None else {"answer_id": number})


def annotation(question: int, answers: list[str], **more: Any) -> dict[str, Any]:
    return {"question_id": question, "answers": [record(text, n) for n, text in enumerate(answers, 1)]} | more


def drawn(rng: random.Random) -> list[str]:
    few = rng.sample(TEXTS, k=rng.randint(1, 4))
    return [rng.choice(few) for _ in range(10)]


def slow_accuracy(prediction: str, records: list[dict[str, Any]]) -> float:
    """The definition: each record left out with all records equal to it; no text has space at its ends."""
    if len({record["answer"] for record in records}) > 1:
        prediction = normalise(prediction)
        records = [record | {"answer": normalise(record["answer"])} for record in records]
    shares = []
    for one in records:
        others = [record for record in records if record != one]
        shares.append(min(1, len([other for other in others if other["answer"] == prediction]) / 3))
    return sum(shares) / len(shares)


# --- the official figures -------------------------------------------------------------------------------------------


def test_every_golden_row_is_met() -> None:
    with gzip.open(real("vqa_metric") / "golden_vqa_accuracy.jsonl.gz", "rt", encoding="utf-8") as file:
        rows = [json.loads(line) for line in file]
    assert len(rows) == 1000
    for row in rows:
        assert official_percent(vqa_accuracy(row["prediction"], row["answers"])) == row["official_acc"], row


# Each expected text was derived by reading the official rules; the reason stands beside it where it is not plain.
@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ("", ""),
        (" \t\n", ""),
        ("a", ""),
        ("The an A", ""),
        ("A.", ""),  # the stop goes before the article is looked for
        ("?", ""),
        ("- -", ""),
        ("...", ""),
        ("a_b", "b"),  # a mark becomes a space, and what it leaves is an article
        ("wii-remotes", "wii remotes"),
        ("ten-speed", "10 speed"),
        ("ten - speed", "10 speed"),
        ("ten -speed", "10 speed"),  # beside a space the hyphen goes, and the space stays
        ("x-ray -speed", "xray speed"),  # one hyphen beside a space, and every hyphen goes without a trace
        ("red,white, blue", "redwhite blue"),
        ("red,white,blue", "red white blue"),
        ("red,white/ blue", "red white blue"),  # each mark is judged for itself
        ("1,000", "1000"),
        ("1,000-2,000", "10002000"),  # digit, comma, digit: every mark goes without a trace
        ("1,000/day", "1000day"),
        ("1,a", "1"),
        ("5.", "5"),  # the look-behind is mistyped: a stop after a digit goes
        ("5.5", "5.5"),
        (".5", ".5"),
        ("3.5.", "3.5"),
        ("u.s.a.", "usa"),
        ("1.-5", "1 5"),  # marks go first, and the stop then stands before a space
        ("." * 33 + "x", ".x"),  # the flag is taken for a count: 32 stops go
        ("." * 40, "........"),
        ("12:30", "12:30"),
        ("$5 & up!", "$5 & up"),
        ("None", "0"),
        ("none.", "0"),
        ("zero one two", "0 1 2"),
        ("eleven", "eleven"),
        ("dont", "don't"),
        ("DONT", "don't"),
        ("dont,", "don't"),
        ("dont-know", "don't know"),
        ("I'M", "i'm"),
        ("Im", "im"),  # the table's keys with capitals are asked for in lower case, and never found
        ("Ive", "ive"),
        ("Id've", "id've"),
        ("somebody'd", "somebodyd"),  # the table takes this apostrophe away
        ("'ows'at", "'ow's'at"),
        ("it’s", "it’s"),
        ("yall'd've", "y'all'd've"),
        ("١,٢ -٣", "١٢ ٣"),  # digits of every script are digits
        ("3.٤", "3.٤"),
        ("½.½", "½½"),
        ("the\u00a0cat", "cat"),  # split at every white space ...
        ("a\u200bcat", "a\u200bcat"),  # ... which a zero-width space is not
        ("A\rcat", "cat"),
        ("1.\n5", "1 5"),  # the newline is a space before the stop is looked at
        ("x\t-y-z", "x yz"),
        ("x\n-y-z", "x yz"),
        ("x-;y-z", "x y z"),  # the space that the semicolon leaves is not in the text that is judged
        ("x;-y-z", "x y z"),
        ("İ", "i̇"),
    ],
)
def test_an_answer_is_normalised_as_the_rules_read(answer, expected) -> None:
    assert normalise(answer) == expected


@pytest.mark.parametrize(
    ("prediction", "answers", "expected"),
    [
        ("yes", ["yes"] * 10, 1.0),
        (" yes\t\n", ["yes"] * 10, 1.0),
        ("yes", ["\tyes "] * 10, 1.0),
        ("YES", ["yes"] * 10, 0.0),  # ten equal answers: nothing is normalised
        ("yes.", ["yes"] * 10, 0.0),
        ("zero", ["0"] * 10, 0.0),
        ("the dog", ["dog"] * 10, 0.0),
        ("Yes.", ["Yes."] * 10, 1.0),
        ("yes", ["Yes."] * 10, 0.0),
        ("Yes", ["yes"] * 5 + [" yes\n"] * 5, 0.0),  # equal once their ends are stripped
        ("YES!", ["yes"] * 9 + ["Yes"], 1.0),  # different, so both sides are normalised, and then equal
        ("", ["a"] * 3 + ["the"] + ["dog"] * 6, 1.0),  # what is nothing but articles is nothing
        ("?", ["."] * 2 + ["dog"] * 8, 0.6),
        ("", [""] * 10, 1.0),
        ("8,000 feet.", ["8,000 feet"] + ["high"] * 9, 0.3),
        ("8 000 feet", ["8,000 feet"] + ["high"] * 9, 0.0),
        ("cant tell", ["can't tell"] * 3 + ["no"] * 7, 0.9),
        ("im", ["I'm"] * 9 + ["im"], 0.3),
    ],
)
def test_an_accuracy_is_as_the_rules_read(prediction, answers, expected) -> None:
    assert vqa_accuracy(prediction, answers) == pytest.approx(expected, abs=1e-12)


def test_the_accuracy_follows_from_the_number_of_equal_answers() -> None:
    scores = [vqa_accuracy("yes", ["yes"] * count + ["no"] * (10 - count)) for count in range(10)]
    assert scores == pytest.approx([0, 0.3, 0.6, 0.9, 1, 1, 1, 1, 1, 1])


# --- what follows from the definition -------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(20))
def test_the_definition_is_met_whoever_answered(seed) -> None:
    rng = random.Random(seed)
    for keys in (range(1, 11), [None] * 10, [rng.randint(1, 3) for _ in range(10)]):
        records = [record(text, key) for text, key in zip(drawn(rng), keys, strict=True)]
        voters = [[record | {"answer": ""} for record in records].index(one | {"answer": ""}) for one in records]
        for prediction in TEXTS:
            answers = [record["answer"] for record in records]
            assert vqa_accuracy(prediction, answers, voters=voters) == slow_accuracy(prediction, records)


@pytest.mark.parametrize("seed", range(20))
def test_the_order_of_annotators_does_not_count_and_an_accuracy_is_a_share(seed) -> None:
    rng = random.Random(seed)
    answers = drawn(rng)
    for prediction in TEXTS:
        score = vqa_accuracy(prediction, answers)
        assert 0 <= score <= 1
        assert vqa_accuracy(prediction, rng.sample(answers, k=10)) == pytest.approx(score, abs=1e-12)
        assert vqa_accuracy(f"\n{prediction}\t ", answers) == score


def test_case_counts_only_where_all_answers_are_equal() -> None:
    rng = random.Random(0)
    for _ in range(100):
        answers = drawn(rng)
        if len(set(answers)) > 1:
            assert vqa_accuracy(answers[0].upper(), answers) == vqa_accuracy(answers[0], answers) > 0


def test_a_contraction_is_restored_once_and_never_taken_apart() -> None:
    assert len(CONTRACTIONS) == 116
    for bare, whole in CONTRACTIONS.items():
        assert normalise(bare) == normalise(bare.upper()) == whole
        assert whole.replace("'", "") == bare.replace("'", "")
        assert whole.count("'") > bare.count("'") or bare in {"let's", "she's", "somebody'd"}
        assert whole in {"'twas", "somebodyd"} or whole.rpartition("'")[2] in ENDINGS


# --- whole sets -----------------------------------------------------------------------------------------------------


def test_means_are_those_of_the_questions() -> None:
    rng = random.Random(3)
    annotations = {
        question: HumanAnswers(
            answers=tuple(drawn(rng)),
            answer_type=rng.choice(["yes/no", "number", "other", None]),
            question_type=rng.choice(["is the", "what", None]),
        )
        for question in range(300)
    }
    predictions = {question: rng.choice(TEXTS) for question in annotations}
    score = score_predictions(predictions, annotations)
    each = {question: vqa_accuracy(predictions[question], known.answers) for question, known in annotations.items()}
    assert score.per_question == each
    assert score.overall == pytest.approx(sum(each.values()) / 300, abs=1e-12)
    for table, kind in ((score.per_answer_type, "answer_type"), (score.per_question_type, "question_type")):
        counts = [group.questions for group in table.values()]
        assert counts == sorted(counts, reverse=True)
        assert None not in table
        for name, group in table.items():
            members = [each[question] for question, known in annotations.items() if getattr(known, kind) == name]
            assert group.questions == len(members)
            assert group.accuracy == pytest.approx(sum(members) / len(members), abs=1e-12)


def test_a_subset_scores_as_if_it_were_all() -> None:
    annotations = {
        number: HumanAnswers(answers=("yes",) * 5 + ("no",) * 5, answer_type="yes/no") for number in range(9)
    }
    predictions = {3: "yes", 7: "maybe"}
    kept = keep_predicted(annotations, predictions, where="p.json")
    assert list(kept) == [3, 7]
    assert score_predictions(predictions, kept).overall == 0.5
    with pytest.raises(DataError, match=r"p\.json: has no prediction for 7 of 9 questions \(0 is the first\)"):
        score_predictions(predictions, annotations, where="p.json")
    with pytest.raises(DataError, match=r"p\.json: predicts none of the 9 questions"):
        keep_predicted(annotations, {10: "yes"}, where="p.json")


def test_a_prediction_of_an_unknown_question_is_named() -> None:
    annotations = {1: HumanAnswers(answers=("yes",))}
    with pytest.raises(DataError, match=r"p: 2 of its 3 questions are not in a \(5 is the first\)"):
        score_predictions({1: "yes", 5: "no", 6: "no"}, annotations, where="p", among="a")


# --- files ----------------------------------------------------------------------------------------------------------


def test_a_file_is_scored_whole_or_only_where_it_answers(tmp_path) -> None:
    asked = write(tmp_path / "q.json", {"questions": [{"question_id": 1}, {"question_id": 2}]})
    told = [annotation(number, ["yes", "yes", "no", "no", "no"]) for number in (1, 2)]
    answers = write(tmp_path / "a.json", {"annotations": told})
    files = ScoreFiles(write(tmp_path / "p.json", [{"question_id": 1, "answer": "yes"}]), asked, answers)
    with pytest.raises(DataError, match="no prediction for 1 of 2"):
        score_vqa_files(files)
    report = score_vqa_files(replace(files, only_predicted=True))
    assert (report.overall.questions, report.per_question) == (1, {1: 53.33})
    assert [doubt[:22] for doubt in report.doubts] == ["only 1 of 2 questions "]
    for person in told[0]["answers"]:
        person["answer_id"] = 1
    write(answers, {"annotations": told[:1]})
    assert [doubt[:22] for doubt in score_vqa_files(files).doubts] == ["1 of 1 questions have "]


def test_a_question_has_a_thousand_answers_at_most(tmp_path) -> None:
    path = write(tmp_path / "a.json", {"annotations": [annotation(7, ["yes"] * 1000)]})
    assert len(read_annotations(path)[7].answers) == 1000
    write(path, {"annotations": [annotation(7, ["yes"] * 1001)]})
    with pytest.raises(DataError, match="1,001 answers"):
        read_annotations(path)


def test_files_are_read_plain_gzip_or_zip(tmp_path) -> None:
    plain = write(tmp_path / "a.json", {"annotations": [annotation(7, ["yes", "no"], answer_type="yes/no")]})
    packed = tmp_path / "a.json.gz"
    packed.write_bytes(gzip.compress(plain.read_bytes()))
    archive = tmp_path / "a.zip"
    with zipfile.ZipFile(archive, "w") as opened:
        opened.write(plain, "v2_mscoco_val2014_annotations.json")
    assert read_annotations(plain) == read_annotations(packed) == read_annotations(archive)
    assert read_annotations(plain) == {7: HumanAnswers(answers=("yes", "no"), answer_type="yes/no")}
    said = write(tmp_path / "p.json", [{"question_id": 7, "answer": "yes", "confidence": 0.5}])
    assert read_predictions(said) == {7: "yes"}
    asked = write(tmp_path / "q.json", {"task_type": "Open-Ended", "questions": [{"question_id": 7}]})
    assert read_questions(asked) == QuestionIndex(ids=frozenset({7}))


def test_records_without_an_id_leave_their_equals_out_as_in_the_official_code(tmp_path) -> None:
    records = [record("yes") for _ in range(9)] + [record("no")]
    path = write(tmp_path / "a.json", {"annotations": [{"question_id": 1, "answers": records}]})
    score = score_predictions({1: "yes"}, read_annotations(path))
    assert score.overall == pytest.approx(0.1)
    assert score.indistinct == 1
    for number, each in enumerate(records):
        each["answer_id"] = number
    write(path, {"annotations": [{"question_id": 1, "answers": records}]})
    score = score_predictions({1: "yes"}, read_annotations(path))
    assert (score.overall, score.indistinct) == (1.0, 0)


@pytest.mark.parametrize("ids", [[[1], [2]], [1, [2]], [1, 2], [None, "a"]])
def test_answers_whose_records_differ_are_of_two_people(ids, tmp_path) -> None:
    """The value of answer_id has no effect. Without an answer_id, two people differ by any other field."""
    records = [record("yes") | {"answer_id": value} for value in ids]
    others = [{"answer": "yes", "answer_confidence": str(value)} for value in ids]
    for told in (records, others):
        path = write(tmp_path / "a.json", {"annotations": [{"question_id": 1, "answers": told}]})
        assert read_annotations(path)[1].voters is None


def test_types_of_as_many_questions_are_in_the_order_of_their_names() -> None:
    assert list(mean_by([("b", 0.0), ("a", 1.0), ("c", 0.5), ("c", 0.5), (None, 1.0)])) == ["c", "a", "b"]


def test_a_multiple_choice_prediction_is_one_of_the_choices(tmp_path) -> None:
    asked = {"task_type": "Multiple Choice", "questions": [{"question_id": 1, "multiple_choices": ["yes", "2"]}]}
    questions = read_questions(write(tmp_path / "q.json", asked))
    check_choices({1: "2"}, questions, where="p.json")
    with pytest.raises(DataError, match=r"p\.json: 'two' is not one of the multiple choices of question_id 1"):
        check_choices({1: "two"}, questions, where="p.json")
    asked["task_type"] = "Open-Ended"
    check_choices({1: "two"}, read_questions(write(tmp_path / "q.json", asked)), where="p.json")


@pytest.mark.parametrize(
    ("document", "named"),
    [
        ({"question_id": 1, "answer": "yes"}, "expected a list of one prediction or more"),
        ([], "is [], expected a list of one prediction or more"),
        ([["1", "yes"]], 'prediction 0 is ["1", "yes"], expected a number or a text as question_id'),
        ([{"question_id": 1, "answer": 2}], 'prediction 0 is {"question_id": 1, "answer": 2}'),
        ([{"question_id": True, "answer": "yes"}], "expected a number or a text as question_id"),
        ([{"questionId": "1", "prediction": "yes"}], "--kind gqa"),
        ([{"question_id": 1, "answer": "yes"}] * 2, "question_id 1 is predicted twice"),
    ],
)
def test_bad_predictions_are_told_what_is_bad(document, named, tmp_path) -> None:
    with pytest.raises(DataError) as caught:
        read_predictions(write(tmp_path / "p.json", document))
    assert str(tmp_path / "p.json") in str(caught.value)
    assert named in str(caught.value)


@pytest.mark.parametrize(
    ("document", "named"),
    [
        ({"questions": [{"question_id": 1}]}, "is VQA's questions JSON, expected its annotations"),
        ([annotation(1, ["yes"])], "has no list of annotations"),
        ({"annotations": []}, "has no list of annotations"),
        ({"annotations": [{"question_id": 1}]}, "expected a question_id and answers"),
        ({"annotations": [annotation(1, [])]}, "expected a question_id and answers"),
        ({"annotations": [annotation(1, ["yes"])] * 2}, "question_id 1 is annotated twice"),
        ({"annotations": [{"question_id": 1, "answers": ["yes", "no"]}]}, 'answer 0 of question_id 1 is "yes"'),
        ({"annotations": [{"question_id": 1, "answers": [record("a", 1), record(2, 2)]}]}, "answer 1 of question_id 1"),
    ],
)
def test_bad_annotations_are_told_what_is_bad(document, named, tmp_path) -> None:
    with pytest.raises(DataError) as caught:
        read_annotations(write(tmp_path / "a.json", document))
    assert named in str(caught.value)


def test_annotations_given_as_questions_are_recognised(tmp_path) -> None:
    path = write(tmp_path / "q.json", {"annotations": [annotation(1, ["yes"])]})
    with pytest.raises(DataError, match="give it as --annotations instead"):
        read_questions(path)
    with pytest.raises(DataError, match=r"question 1 is .* expected a question_id"):
        read_questions(write(path, {"questions": [{"question_id": 1}, {"question": "why?"}]}))


DAMAGED = {
    "empty": b"",
    "open": b"[",
    "nested": b"[" * 100_000,
    "cut": gzip.compress(b"[]" * 99)[:-9],
    "utf-16": b"\xff\xfe\x00[",
    "closed": b"]",
}


@pytest.mark.parametrize("damage", DAMAGED.values(), ids=DAMAGED)
def test_a_damaged_file_is_one_sentence(damage, tmp_path) -> None:
    path = tmp_path / "p.json"
    path.write_bytes(damage)
    with pytest.raises(DataError, match=r"p\.json: is damaged or not JSON"):
        read_predictions(path)
    with pytest.raises(DataError, match="no such file"):
        read_predictions(tmp_path / "absent.json")


def test_published_records_are_read() -> None:
    found = real("vqa_records")
    annotations, questions = read_annotations(found / "annotations.json"), read_questions(found / "questions.json")
    assert set(annotations) == questions.ids
    commonest = {key: max(each.answers, key=each.answers.count) for key, each in annotations.items()}
    score = score_predictions(commonest, annotations)
    assert 0.3 <= score.overall <= 1
    assert score.per_answer_type == score.per_question_type == {}  # this file tells no types


def test_the_constant_answer_scores_what_is_known_of_it() -> None:
    found = real("vqa2")
    annotations = read_annotations(found / "vqa_annotatons_valid.json.gz")
    assert set(annotations) == read_questions(found / "vqa_questions_valid.json.gz").ids
    score = score_predictions(dict.fromkeys(annotations, "yes"), annotations)
    assert official_percent(score.overall) == 20.85
    assert sum(group.questions for group in score.per_answer_type.values()) == len(annotations) == 8977
