"""Laws of accuracy and consistency: NLVR2's and NLVR v1's sentences are right as a whole or not at all."""

from __future__ import annotations

import gzip
import json
import random
import zipfile
from dataclasses import replace

import pytest

from lxcompress.data.nlvr2_score import (
    nlvr2_sentence,
    nlvr_sentence,
    read_nlvr_labels,
    read_nlvr_predictions,
    score_nlvr,
    score_nlvr2_files,
    score_nlvr_files,
)
from lxcompress.data.scoring import ScoreFiles
from lxcompress.data.vqa_score import TypeScore
from lxcompress.errors import DataError
from tests.real import real

SENTENCE = {"nlvr2": nlvr2_sentence, "nlvr": nlvr_sentence}


def labelled(seed: int) -> dict[str, bool]:
    """Examples of NLVR2: sets of up to two sentences, each over up to four pairs of images."""
    rng = random.Random(seed)
    names = [
        f"dev-{group}-{pair}-{number}"
        for group in range(40)
        for number in range(2)
        for pair in range(rng.randint(1, 4))
    ]
    rng.shuffle(names)
    return {name: rng.random() < 0.5 for name in names}


def guessed(labels: dict[str, bool], seed: int) -> dict[str, bool]:
    rng = random.Random(seed)
    return {name: label if rng.random() < 0.8 else not label for name, label in labels.items()}


@pytest.mark.parametrize("seed", range(10))
def test_scores_are_those_of_the_slow_definition(seed) -> None:
    labels = labelled(seed)
    said = guessed(labels, seed + 1)
    right = {name: said[name] == label for name, label in labels.items()}
    score = score_nlvr(said, labels, sentence=nlvr2_sentence)
    sentences = {(group, number) for _, group, _, number in (name.split("-") for name in labels)}
    whole = sum(
        all(right[name] for name in labels if (name.split("-")[1], name.split("-")[3]) == sentence)
        for sentence in sentences
    )
    assert score.overall == pytest.approx(sum(right.values()) / len(right), abs=1e-12)
    assert score.consistency == pytest.approx(whole / len(sentences), abs=1e-12)
    assert score.sentences == len(sentences)
    assert score.per_question == right


def test_one_wrong_pair_undoes_its_sentence_alone() -> None:
    labels = dict.fromkeys(["dev-1-0-0", "dev-1-1-0", "dev-1-0-1", "dev-2-0-0"], True)
    score = score_nlvr(labels | {"dev-1-1-0": False}, labels, sentence=nlvr2_sentence)
    assert (score.overall, score.consistency, score.sentences) == (0.75, pytest.approx(2 / 3), 3)
    v1 = dict.fromkeys(["10-0", "10-1", "7-0"], True)
    assert score_nlvr(v1 | {"10-1": False}, v1, sentence=nlvr_sentence).consistency == 0.5


def test_predictions_of_others_count_for_nothing_and_a_missing_one_is_named() -> None:
    labels = {"dev-1-0-0": True, "dev-1-1-0": False}
    assert score_nlvr(labels | {"dev-9-0-0": True}, labels, sentence=nlvr2_sentence).overall == 1
    with pytest.raises(DataError, match=r"p\.csv: has no prediction for 1 of 2 questions \(dev-1-1-0 is the first\)"):
        score_nlvr({"dev-1-0-0": True}, labels, sentence=nlvr2_sentence, where="p.csv")


def test_a_file_is_scored_whole_or_only_where_it_answers(tmp_path) -> None:
    said, asked = tmp_path / "p.csv", tmp_path / "q.json"
    said.write_text("dev-1-0-0,True\ndev-9-0-0,True\n", encoding="utf-8")
    labels = [{"identifier": f"dev-1-{pair}-0", "label": "True"} for pair in range(2)]
    asked.write_text(json.dumps(labels), encoding="utf-8")
    with pytest.raises(DataError, match="no prediction for 1 of 2"):
        score_nlvr2_files(ScoreFiles(said, asked))
    report = score_nlvr2_files(replace(ScoreFiles(said, asked), only_predicted=True))
    assert (report.overall, report.consistency) == (TypeScore(1.0, 1), TypeScore(1.0, 1))
    assert report.per_question == {"dev-1-0-0": 100.0}
    assert [doubt[:23] for doubt in report.doubts] == ["only 1 of 2 questions h", "1 of 2 predictions are "]
    with pytest.raises(DataError, match="1 of its 2 questions are not in"):
        score_nlvr_files(ScoreFiles(said, asked))


def test_identifiers_of_the_other_kind_are_recognised() -> None:
    assert nlvr2_sentence("test1-12-3-1") == nlvr2_sentence("test1-12-0-1") != nlvr2_sentence("test1-12-3-0")
    assert nlvr_sentence("1572-0") == nlvr_sentence("1572-3") != nlvr_sentence("157-0")
    with pytest.raises(DataError, match=r"--kind nlvr$"):
        nlvr2_sentence("1572-0")
    with pytest.raises(DataError, match=r"--kind nlvr2$"):
        nlvr_sentence("dev-1-0-0")


def test_files_are_read_in_each_of_their_forms(tmp_path) -> None:
    said = tmp_path / "p.csv"
    said.write_text("dev-1-0-0,True\r\n\ndev-1-1-0,false,0.93\n", encoding="utf-8")
    packed = tmp_path / "p.zip"
    with zipfile.ZipFile(packed, "w") as opened:
        opened.write(said, "test1.csv")
    assert read_nlvr_predictions(said) == read_nlvr_predictions(packed) == {"dev-1-0-0": True, "dev-1-1-0": False}
    examples = [{"identifier": "1-0", "label": "true"}, {"identifier": "1-1", "label": "False"}]
    lines, array, packed = (tmp_path / name for name in ("lines.json", "array.json", "lines.json.gz"))
    lines.write_text("\n".join(map(json.dumps, examples)) + "\n", encoding="utf-8")
    array.write_text(json.dumps(examples, indent=1), encoding="utf-8")
    packed.write_bytes(gzip.compress(lines.read_bytes()))
    assert read_nlvr_labels(lines) == read_nlvr_labels(array) == read_nlvr_labels(packed) == {"1-0": True, "1-1": False}


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("identifier,prediction\n", "line 1 is"),
        ("dev-1-0-0,True\ndev-1-1-0, True\n", "line 2 is"),  # the official code takes this one for wrong
        ("dev-1-0-0,1\n", "expected an identifier, a comma and True or False"),
        ("dev-1-0-0\n", "expected an identifier, a comma and True or False"),
        ("dev-1-0-0,True\n\ndev-1-0-0,True\n", "line 3 predicts dev-1-0-0 again"),
        ("\n", "has no prediction"),
    ],
)
def test_bad_predictions_are_told_what_is_bad(text, named, tmp_path) -> None:
    path = tmp_path / "p.csv"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(DataError) as caught:
        read_nlvr_predictions(path)
    assert named in str(caught.value)


@pytest.mark.parametrize(
    ("data", "named"),
    [
        (b'{"identifier": "1-0", "label": "true"}\n{"identifier"', "line 2 is damaged or not JSON"),
        (b'{"identifier": "1-0"}', "record 0 is"),
        (b'{"identifier": "1-0", "label": "maybe"}', "expected an identifier and a label"),
        (b'[{"identifier": "1-0", "label": "true"}, {"identifier": "1-0", "label": "true"}]', "1-0 is labelled twice"),
        (b'{"questions": []}', "record 0 is"),
        (b"", "is empty; give the official JSON lines"),
        (b"\xff\xff", "is damaged or not JSON"),
    ],
)
def test_bad_examples_are_told_what_is_bad(data, named, tmp_path) -> None:
    path = tmp_path / "q.json"
    path.write_bytes(data)
    with pytest.raises(DataError) as caught:
        read_nlvr_labels(path)
    assert named in str(caught.value)


@pytest.mark.parametrize(
    ("kind", "name", "examples", "sentences"),
    [("nlvr2", ("nlvr2", "dev.json.gz"), 6982, 2018), ("nlvr", ("nlvr", "dev.json"), 989, 267)],
)
def test_published_examples_are_scored(kind, name, examples, sentences) -> None:
    labels = read_nlvr_labels(real(*name))
    score = score_nlvr(labels, labels, sentence=SENTENCE[kind])
    assert (score.overall, score.consistency) == (1, 1)
    assert (len(score.per_question), score.sentences) == (examples, sentences)
    constant = score_nlvr(dict.fromkeys(labels, True), labels, sentence=SENTENCE[kind])
    assert constant.overall == pytest.approx(sum(labels.values()) / examples)
    assert constant.consistency < constant.overall
