"""Laws of the test split of data sets that read files: it is read like the others, and no question is in two splits."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from lxcompress.catalog.data_kinds import DATA_KINDS, find_data_kind
from lxcompress.data.check import check_data
from lxcompress.data.gqa import read_gqa
from lxcompress.data.problems import Problems
from lxcompress.data.questions import QuestionSet
from lxcompress.data.tasks import load_task
from lxcompress.errors import DataError
from lxcompress.recipe import AnyData
from tests.data import test_gqa as of_gqa
from tests.data import test_nlvr as of_nlvr
from tests.data import test_nlvr2 as of_nlvr2
from tests.data import test_vqa as of_vqa

Make = Callable[[Path, range], AnyData]
"""(folder, numbers of the test questions) -> the data section"""


def make_vqa(folder: Path, numbers: range) -> AnyData:
    return of_vqa.redistributed(folder, test=of_vqa.write(folder / "test.json", of_vqa.lxmert(numbers, "val2014")))


def make_official_vqa(folder: Path, numbers: range) -> AnyData:
    return of_vqa.official(
        folder,
        test=of_vqa.write(folder / "q-test.json", of_vqa.questions(numbers, "val2014")),
        test_annotations=of_vqa.write(folder / "a-test.json", of_vqa.annotations(numbers, "val2014")),
    )


def make_gqa(folder: Path, numbers: range) -> AnyData:
    return of_gqa.settings(folder, of_gqa.lxmert, test=of_gqa.write(folder / "test.json", of_gqa.lxmert(numbers)))


def make_nlvr2(folder: Path, numbers: range) -> AnyData:
    return of_nlvr2.settings(folder, test=of_nlvr2.write(folder / "test.json", of_nlvr2.official(numbers, "train")))


def make_nlvr(folder: Path, numbers: range) -> AnyData:
    groups = of_nlvr.records(numbers)
    return of_nlvr.settings(folder, weak=None, test=of_nlvr.write(folder / "test.json", groups))


KINDS: dict[str, Make] = {
    "vqa": make_vqa,
    "official vqa": make_official_vqa,
    "gqa": make_gqa,
    "nlvr2": make_nlvr2,
    "nlvr": make_nlvr,
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_test_split_is_read_and_changes_no_other(kind, tmp_path) -> None:
    data = KINDS[kind](tmp_path, range(300, 310))
    without = data.model_copy(update={name: None for name in ("test", "test_annotations") if hasattr(data, name)})
    found, before = load_task(data), load_task(without)
    assert found.test is not None
    assert before.test is None
    assert found.test.credits.any()
    assert len({*found.train.ids, *found.valid.ids, *found.test.ids}) == sum(map(len, found.splits))
    assert (found.train.ids, found.valid.ids, found.labels) == (before.train.ids, before.valid.ids, before.labels)
    assert len(load_task(data.model_copy(update={"max_test": 3})).test) == 3


@pytest.mark.parametrize("kind", KINDS)
def test_a_question_in_the_test_split_and_in_another_is_an_error(kind, tmp_path) -> None:
    data = KINDS[kind](tmp_path, range(5, 310, 300))  # the first is a training question
    with pytest.raises(DataError) as caught:
        load_task(data)
    assert "test.json" in str(caught.value)
    assert " too" in str(caught.value)
    (error,) = [finding for finding in check_data(data).findings if finding.severity == "error"]
    assert str(error.where).endswith("test.json")


def test_a_test_split_without_answers_is_an_error(tmp_path) -> None:
    """A validation split without answers is a warning: predictions can be made for it. A test split only scores."""
    bare = [
        {name: record[name] for name in ("question_id", "img_id", "sent")} for record in of_vqa.lxmert(range(300, 310))
    ]
    data = of_vqa.redistributed(tmp_path, test=of_vqa.write(tmp_path / "test.json", bare))
    with pytest.raises(DataError, match="has no answers, so nothing can be tested"):
        load_task(data)


def test_weak_sentences_of_a_test_group_are_not_trained_on(tmp_path) -> None:
    data = of_nlvr.settings(tmp_path, test=of_nlvr.write(tmp_path / "test.json", of_nlvr.records(range(11, 13))))
    groups = {str(identifier).partition("-")[0] for identifier in load_task(data).train.ids}
    assert "11" not in groups
    assert "10" in groups
    assert json.loads((tmp_path / "weak.json").read_text("utf-8").splitlines()[-1])["identifier"].startswith("11-")


def read_two_splits(settings: AnyData, problems: Problems) -> QuestionSet:
    """The reader of a kind of data that knows no test split."""
    return replace(read_gqa(settings, problems), test=None)


def test_a_kind_without_a_test_split_refuses_one(monkeypatch, tmp_path) -> None:
    spec = replace(find_data_kind("gqa"), read="tests.data.test_held_out:read_two_splits")
    monkeypatch.setitem(DATA_KINDS, "gqa", spec)
    with pytest.raises(DataError, match="gqa has no test split; leave"):
        load_task(make_gqa(tmp_path, range(300, 310)))
