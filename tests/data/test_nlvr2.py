"""Laws of NLVR2: official JSON lines and LXMERT's JSON ask the same about the same pairs, left image first."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from lxcompress.data.nlvr2 import LABELS, image_names, read_nlvr2
from lxcompress.errors import DataError
from lxcompress.recipe import Nlvr2Data
from tests.data.trimmed import TrimmedQuestions, trim
from tests.real import real


def official(numbers: Iterable[int], split: str) -> list[dict[str, Any]]:
    return [
        {
            "sentence": f"There are {n} dogs.",
            "identifier": f"{split}-{n // 4}-{n % 4}-0",
            "label": LABELS[n % 3 == 0],
            "left_url": "https://example.org/left.jpg",
            "right_url": "https://example.org/right.jpg",
            "validation": {"61": "False"},
        }
        for n in numbers
    ]


def lxmert(numbers: Iterable[int], split: str) -> list[dict[str, Any]]:
    """The same sentences as LXMERT's JSON has them."""
    return [
        {
            "identifier": f"{split}-{n // 4}-{n % 4}-0",
            "img0": f"{split}-{n // 4}-{n % 4}-img0",
            "img1": f"{split}-{n // 4}-{n % 4}-img1",
            "label": int(n % 3 == 0),
            "sent": f"There are {n} dogs.",
            "uid": f"nlvr2_{split}_{n}",
        }
        for n in numbers
    ]


def write(path: Path, records: list[Any], *, is_list: bool = False) -> Path:
    lines = json.dumps(records, indent=1) if is_list else "".join(json.dumps(record) + "\n" for record in records)
    path.write_bytes(gzip.compress(lines.encode()) if path.suffix == ".gz" else lines.encode())
    return path


def settings(folder: Path, make: Any = official, suffix: str = "", **fields: Any) -> Nlvr2Data:
    files = {
        name: write(folder / f"{name}.json{suffix}", make(range(count), split), is_list=make is lxmert)
        for name, split, count in (("train", "train", 12), ("valid", "dev", 8))
    }
    return Nlvr2Data(kind="nlvr2", **(files | fields))


def read(data: Nlvr2Data) -> TrimmedQuestions:
    return trim(read_nlvr2(data))


def complain(data: Nlvr2Data) -> str:
    """The one sentence that reading ends with."""
    with pytest.raises(DataError) as caught:
        read(data)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_official_lines_and_lxmerts_json_ask_the_same(tmp_path) -> None:
    assert read(settings(tmp_path)) == read(settings(tmp_path, lxmert))


@pytest.mark.parametrize("make", [official, lxmert])
def test_packed_and_plain_files_ask_the_same(make, tmp_path) -> None:
    assert read(settings(tmp_path, make, ".gz")) == read(settings(tmp_path, make))


def test_every_sentence_keeps_its_own_pair_and_label_in_order(tmp_path) -> None:
    asked = read(settings(tmp_path))
    assert asked.labels == ("False", "True")
    assert len(asked.train) == 12
    for number, question in enumerate(asked.train):
        stem = f"train-{number // 4}-{number % 4}"
        assert question.id == f"{stem}-0"
        assert question.images == (f"{stem}-img0", f"{stem}-img1")
        assert question.words == f"There are {number} dogs."
        assert question.credits == {"True" if number % 3 == 0 else "False": 1.0}
        assert question.type == "all"


def test_sentences_without_a_label_have_no_credits(tmp_path) -> None:
    bare = [{k: v for k, v in record.items() if k != "label"} for record in official(range(8), "test2")]
    path = write(tmp_path / "test2.json", bare)
    assert not any(question.credits for question in read(settings(tmp_path, valid=path)).valid)
    assert "has no answers to learn from" in complain(settings(tmp_path, train=path))


@pytest.mark.parametrize("label", ["true", 2, -1, None, 0.5, [1], "yes"])
def test_a_label_that_is_none_is_named(label, tmp_path) -> None:
    records = official(range(12), "train")
    records[5]["label"] = label
    assert "the label of train-1-1-0 is" in complain(settings(tmp_path, train=write(tmp_path / "bad.json", records)))


@pytest.mark.parametrize("identifier", ["train-1-1", "train-1-1-0-0", "train-1-1-", 5, None])
def test_a_bad_identifier_is_named_by_its_place(identifier, tmp_path) -> None:
    records = official(range(12), "train")
    records[5]["identifier"] = identifier
    path = write(tmp_path / "bad.json", records)
    assert complain(settings(tmp_path, train=path)).startswith(f"{path}: record 5 is ")


@pytest.mark.parametrize("change", [{"img0": None}, {"img1": 3}, {"sent": None}, {"identifier": None}])
def test_a_bad_record_of_lxmerts_is_named_by_its_place(change, tmp_path) -> None:
    records = lxmert(range(12), "train")
    records[5] |= change
    path = write(tmp_path / "bad.json", records, is_list=True)
    assert complain(settings(tmp_path, train=path)).startswith(f"{path}: record 5 is ")


def test_an_example_in_both_splits_is_a_leak(tmp_path) -> None:
    shared = write(tmp_path / "shared.json", official(range(10, 14), "train"))
    assert "2 question ids (train-2-2-0, train-2-3-0) are in" in complain(settings(tmp_path, valid=shared))


def test_the_published_sentences_are_read(tmp_path) -> None:
    dev = real("nlvr2", "dev.json.gz")
    asked = read(Nlvr2Data(kind="nlvr2", train=write(tmp_path / "t.json", official(range(3), "train")), valid=dev))
    assert len(asked.valid) == 6_982
    assert sum("True" in question.credits for question in asked.valid) == 3_551
    assert asked.valid[0].images == image_names("dev-850-0-0") == ("dev-850-0-img0", "dev-850-0-img1")
    assert asked.valid[0].credits == {"False": 1.0}
