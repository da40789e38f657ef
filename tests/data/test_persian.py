"""Laws of Persian: the same programs, scenes and labels as in English, in words that the shipped vocabulary has."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import torch

from lxcompress.data.bert_rules import UNKNOWN
from lxcompress.data.check import check_data
from lxcompress.data.objects import ANSWERS
from lxcompress.data.persian import ZWNJ, normalise_persian
from lxcompress.data.persian_scenes import PERSIAN_ANSWERS, ask_persian
from lxcompress.data.programs import Phrase, QuestionProgram, ask_english
from lxcompress.data.scenes import draw_questions, draw_scenes
from lxcompress.data.tasks import load_task
from lxcompress.data.tokens import (
    Vocabulary,
    format_vocabulary,
    read_translations,
    read_vocabulary,
    shipped_vocabulary,
    tokenize,
)
from lxcompress.errors import DataError
from lxcompress.models.start import NewLayers, load_start
from lxcompress.models.vocabulary import choose_vocabulary, load_vocabulary, save_vocabulary
from lxcompress.recipe import ScenesData, load_recipe
from lxcompress.study.agreement import load_start_task

CUBE, SPHERE = Phrase({"shape": 0, "color": 1, "material": 1}), Phrase({"shape": 1, "size": 0})
SMALL = {"kind": "scenes", "train": 400, "valid": 40}


@pytest.fixture(scope="module")
def tasks():
    return {language: load_task(ScenesData(**SMALL, language=language)) for language in ("en", "fa")}


def test_only_the_words_differ_from_the_english_task(tasks) -> None:
    english, persian = tasks["en"].train, tasks["fa"].train
    assert torch.equal(english.answers, persian.answers)
    assert torch.equal(english.scene, persian.scene)
    assert torch.equal(english.regions.features, persian.regions.features)
    assert english.types == persian.types
    assert len(set(PERSIAN_ANSWERS)) == len(ANSWERS)
    assert tasks["fa"].labels == PERSIAN_ANSWERS


def test_two_english_questions_are_two_persian_ones() -> None:
    """So that a Persian question tells as much as the English one."""
    scenes = draw_scenes(300, np.random.default_rng(0))
    words = [draw_questions(600, scenes, np.random.default_rng(1), ask)[0] for ask in (ask_english, ask_persian)]
    pairs = set(zip(*words, strict=True))
    assert len(pairs) == len({english for english, _ in pairs}) == len({persian for _, persian in pairs})


@pytest.mark.parametrize(
    ("program", "words"),
    [
        (QuestionProgram("exists", (CUBE,)), "آیا یک مکعب فلزی قرمز وجود دارد؟"),
        (QuestionProgram("count", (SPHERE,)), "چند کره\u0654 کوچک وجود دارد؟"),
        (QuestionProgram("value", (SPHERE,), "size"), "اندازه\u0654 کره\u0654 کوچک چیست؟"),
        (
            QuestionProgram("value", (Phrase({"shape": 1}), CUBE), "color", "left of"),
            "رنگ کره\u0654 سمت چپ مکعب فلزی قرمز چیست؟",
        ),
        (
            QuestionProgram("compare-counts", (CUBE, Phrase({"shape": 1})), comparison="fewer"),
            f"آیا تعداد مکعب{ZWNJ}های فلزی قرمز از تعداد کره{ZWNJ}ها کمتر است؟",
        ),
        (
            QuestionProgram("compare-values", (CUBE, SPHERE), "material"),
            "آیا جنس مکعب فلزی قرمز با جنس کره\u0654 کوچک یکسان است؟",
        ),
        (
            QuestionProgram("relation", (CUBE, SPHERE), relation="in front of"),
            "آیا مکعب فلزی قرمز جلوی کره\u0654 کوچک است؟",
        ),
        (
            QuestionProgram("count-related", (Phrase({"color": 4}), CUBE), relation="right of"),
            f"چند جسم قهوه{ZWNJ}ای در سمت راست مکعب فلزی قرمز وجود دارد؟",
        ),
    ],
)
def test_each_kind_of_question_in_words(program, words) -> None:
    assert ask_persian(program) == words


def test_no_word_is_unknown_or_spelled_in_letters(tasks) -> None:
    vocabulary = tasks["fa"].vocabulary
    used = {vocabulary[row] for row in tasks["fa"].train.input_ids.unique().tolist()}
    assert UNKNOWN not in used
    assert {token for token in used if len(token.removeprefix("##")) == 1} == {"؟"}
    answers = tokenize(PERSIAN_ANSWERS, vocabulary, 9)
    assert answers.shape == (len(ANSWERS), 3), "an answer is one token, so that a Persian mini can be pre-trained"


@pytest.mark.parametrize(
    ("typed", "expected"),
    [
        ("\u0643\u062a\u0627\u0628\u064a", "کتابی"),  # Arabic kaf and yeh
        (f"قهوه{ZWNJ}ای", "قهوهای"),
        ("کُرِه\u0654 ق\u0640رمز", "کره قرمز"),  # vowel marks, the written ezafe, a tatweel
        ("\u0622\u0628\u06cc", "آبی"),
        ("ا\u0653بی", "آبی"),  # alef and madda are one character
        ("١٢ ۱۲ 12", "۱۲ ۱۲ ۱۲"),
        ("red cube?", "red cube?"),
    ],
)
def test_one_word_has_one_spelling(typed, expected) -> None:
    assert normalise_persian(typed) == expected
    assert normalise_persian(expected) == expected


def test_digits_become_those_of_the_vocabulary() -> None:
    english = Vocabulary(shipped_vocabulary().tokens, language="fa")
    ids = tokenize(["١٠", "۱۰", "10"], english, 9).tolist()
    assert ids[0] == ids[1] == ids[2]
    assert english[ids[0][1]] == "10"


def test_the_language_is_kept_with_the_vocabulary(tmp_path) -> None:
    vocabulary = shipped_vocabulary("fa")
    save_vocabulary(tmp_path, vocabulary)
    assert read_vocabulary(tmp_path) == vocabulary
    assert "lxcompress_language" not in "".join(format_vocabulary(shipped_vocabulary()).values())
    (tmp_path / "tokenizer_config.json").write_text('{"lxcompress_language": "xx"}')
    with pytest.raises(DataError, match='lxcompress_language is "xx", expected fa'):
        read_vocabulary(tmp_path)


def test_the_start_gets_the_persian_vocabulary_unless_it_has_one(tiny_start, tmp_path) -> None:
    path = choose_vocabulary(str(tiny_start), None, "fa")
    assert path is not None
    assert load_vocabulary(str(tiny_start), path) == shipped_vocabulary("fa")
    assert choose_vocabulary(str(tiny_start), None, None) is None
    assert choose_vocabulary(str(tiny_start), tmp_path, "fa") == tmp_path
    persian = tmp_path / "persian"
    persian.mkdir()
    (persian / "config.json").write_bytes((tiny_start / "config.json").read_bytes())
    (persian / "model.safetensors").write_bytes((tiny_start / "model.safetensors").read_bytes())
    save_vocabulary(persian, shipped_vocabulary("fa"))
    assert choose_vocabulary(str(persian), None, "fa") is None


def test_a_translated_word_begins_with_its_english_embedding(tiny_start) -> None:
    path = choose_vocabulary(str(tiny_start), None, "fa")
    assert path is not None
    persian, english = shipped_vocabulary("fa"), load_vocabulary(str(tiny_start))
    own, _ = load_start(str(tiny_start), ANSWERS, 0)
    moved, _ = load_start(str(tiny_start), ANSWERS, 0, vocabulary=path)
    name = moved.family.anatomy.words
    for token, other in (("قرمز", "red"), ("؟", "?"), ("[CLS]", "[CLS]")):
        assert torch.equal(moved.weights[name][persian.index(token)], own.weights[name][english.index(other)])
    assert set(read_translations(path).values()) <= set(english)


def test_all_words_can_be_drawn(tiny_start) -> None:
    own, _ = load_start(str(tiny_start), ANSWERS, 0)
    drawn, _ = load_start(str(tiny_start), ANSWERS, 0, layers=NewLayers(draws_words=True))
    name = own.family.anatomy.words
    is_kept = (own.weights[name] == drawn.weights[name]).all(1)
    assert is_kept.tolist() == [index < 5 for index in range(len(is_kept))]
    others = [key for key in own.weights if key != name]
    assert all(torch.equal(own.weights[key], drawn.weights[key]) for key in others)


def test_the_example_of_the_page_runs(tmp_path, monkeypatch) -> None:
    """docs/persian.md: the rows, the recipe, and the code that makes a vocabulary."""
    page = (Path(__file__).parents[2] / "docs" / "persian.md").read_text("utf-8")
    (rows,), (recipe,), (code,) = (
        re.findall(rf"```{kind}\n(.*?)```", page, re.DOTALL) for kind in ("json", "yaml", "python")
    )
    (tmp_path / "train.json").write_text(rows, "utf-8")
    (tmp_path / "valid.json").write_text(rows.replace('"question_id": ', '"question_id": 9'), "utf-8")
    (tmp_path / "study.yaml").write_text(recipe, "utf-8")
    monkeypatch.chdir(tmp_path)
    exec(compile(code, "docs/persian.md", "exec"), {})
    task = load_start_task(load_recipe(tmp_path / "study.yaml"))
    assert task.vocabulary.language == "fa"
    assert UNKNOWN not in {task.vocabulary[row] for row in task.train.input_ids.unique().tolist()}
    assert "کتابی" in task.vocabulary.ids, "typed with Arabic letters in the example"
    assert len(task.labels) == 4
    report = check_data(load_recipe(tmp_path / "study.yaml").data, read_vocabulary(tmp_path / "vocab.txt"))
    (unknown,) = (fact.values for fact in report.facts if fact.name == "unknown tokens")
    assert set(unknown.values()) == {0}, "the check normalises as training does"
