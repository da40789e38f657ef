"""Laws of published files: one document, whatever it is packed in, and one sentence about what is wrong."""

from __future__ import annotations

import gzip
import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lxcompress.data.files import list_files, read_json, read_labels, read_records
from lxcompress.errors import DataError
from lxcompress.text import shorten

DOCUMENT = {"questions": [{"question": "Wie heißt das Café\u2028?", "number": 1}], "info": {"version": "2.0"}}
RECORDS = [{"identifier": "a-0", "sentence": "one\u2028two\x85three\x0b four"}, {"identifier": "a-1", "sentence": ""}]


def zipped(path: Path, **members: bytes) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            archive.writestr(name.replace("__", "."), data)
    return path


def packed(folder: Path, data: bytes) -> dict[str, Path]:
    """`data` as each kind of file that may hold it, all without telling it in the name."""
    archive = zipped(folder / "archive", train__json=data, readme__txt=b"hello")
    two = zipped(folder / "two", train__json=data, valid__json=b"[]")
    paths = {"plain": folder / "plain", "gzip": folder / "gzip", "bom": folder / "bom"}
    paths["plain"].write_bytes(data)
    paths["gzip"].write_bytes(gzip.compress(data))
    paths["bom"].write_bytes(b"\xef\xbb\xbf" + data)
    return {**paths, "zip": archive, "member": two / "train.json"}


def complain(read: Callable[[], Any]) -> str:
    """The one sentence that reading ends with."""
    with pytest.raises(DataError) as caught:
        read()
    said = str(caught.value)
    assert "\n" not in said
    return said


@pytest.mark.parametrize("is_ascii", [True, False])
def test_a_document_is_the_same_in_every_packing(is_ascii, tmp_path) -> None:
    for path in packed(tmp_path, json.dumps(DOCUMENT, ensure_ascii=is_ascii).encode()).values():
        assert read_json(path, remedy="") == DOCUMENT


@pytest.mark.parametrize("is_ascii", [True, False])
@pytest.mark.parametrize("ending", ["", "\n", "\n\n  \n"])
def test_records_are_the_same_a_line_or_a_list(is_ascii, ending, tmp_path) -> None:
    texts = [json.dumps(record, ensure_ascii=is_ascii) for record in RECORDS]
    for number, text in enumerate(("\n".join(texts), "\r\n".join(texts), f"\n [{','.join(texts)}]")):
        folder = tmp_path / str(number)
        folder.mkdir()
        for path in packed(folder, (text + ending).encode()).values():
            assert read_records(path, remedy="") == RECORDS


def test_a_hook_sees_each_object_the_innermost_first(tmp_path) -> None:
    path = packed(tmp_path, json.dumps(DOCUMENT).encode())["plain"]
    seen: list[set[str]] = []
    read_json(path, remedy="", hook=lambda found: seen.append(set(found)))
    assert seen == [{"question", "number"}, {"version"}, {"questions", "info"}]


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: data[: len(data) // 2],
        lambda data: data[:-4],
        lambda data: b"",
        lambda data: b"<html>not found</html>",
        lambda data: b"\xff\xfe\x00",
        lambda data: b"[" * 100_000,
        lambda data: gzip.compress(b'{"questions": ['),
    ],
    ids=["half", "no-end", "empty", "html", "binary", "deep", "cut-json"],
)
@pytest.mark.parametrize("packing", ["plain", "gzip", "zip"])
def test_a_damaged_file_is_named(packing, damage, tmp_path) -> None:
    path = packed(tmp_path, json.dumps(DOCUMENT).encode())[packing]
    path.write_bytes(damage(path.read_bytes()))
    said = complain(lambda: read_json(path, remedy="give it"))
    assert said.startswith(f"{path}: is damaged or not JSON (")
    assert said.endswith("download it again")


def test_a_damaged_line_is_named_by_its_number(tmp_path) -> None:
    path = tmp_path / "lines.json"
    path.write_text('{"a": 1}\n\n{"a": \n{"a": 3}\n')
    assert complain(lambda: read_records(path, remedy="")).startswith(f"{path}: line 3 is damaged or not JSON")


@pytest.mark.parametrize("text", ["3", "[1, 2]", '{"a": 1}\n2\n', "", "[]", " \n"])
def test_records_that_are_none_end_in_the_remedy(text, tmp_path) -> None:
    path = tmp_path / "lines.json"
    path.write_text(text)
    assert complain(lambda: read_records(path, remedy="give the right file")).endswith("give the right file")


def test_what_is_not_there_is_said_with_the_remedy(tmp_path) -> None:
    archive = packed(tmp_path, b"{}")["zip"]
    for path in (tmp_path / "absent.json", archive / "absent.json", tmp_path / "plain" / "absent.json"):
        assert complain(lambda path=path: read_json(path, remedy="give it")) == f"{path}: no such file; give it"
    assert (
        complain(lambda: read_json(tmp_path, remedy="give it")) == f"{tmp_path}: is a folder, expected a file; give it"
    )


def test_an_archive_of_several_files_says_how_to_name_one(tmp_path) -> None:
    archive = zipped(tmp_path / "questions.zip", OpenEnded__json=b"{}", MultipleChoice__json=b"[]")
    said = complain(lambda: read_json(archive, remedy=""))
    assert "has 2 JSON files (OpenEnded.json, MultipleChoice.json)" in said
    assert f"{archive}/OpenEnded.json" in said
    assert read_json(archive / "MultipleChoice.json", remedy="") == []


def test_an_archive_without_json_is_refused(tmp_path) -> None:
    archive = zipped(tmp_path / "questions.zip", readme__txt=b"hello")
    assert "has 0 JSON files (none), expected one" in complain(lambda: read_json(archive, remedy=""))


def test_a_folder_stands_for_its_json_files_in_order(tmp_path) -> None:
    for name in ("part_1.json", "part_0.json.gz", "readme.txt"):
        (tmp_path / name).write_text("{}")
    assert [path.name for path in list_files(tmp_path, remedy="")] == ["part_0.json.gz", "part_1.json"]
    assert list_files(tmp_path / "part_1.json", remedy="") == [tmp_path / "part_1.json"]
    (tmp_path / "none").mkdir()
    assert complain(lambda: list_files(tmp_path / "none", remedy="give some")).endswith("give some")


def test_both_forms_of_an_answer_vocabulary_give_the_same_labels(tmp_path) -> None:
    answers = ["", "yes", "no", "1 4"]
    forward, backward = tmp_path / "ans2label.json", tmp_path / "label2ans.json"
    forward.write_text(json.dumps({answers[label]: label for label in (2, 0, 3, 1)}))
    backward.write_text(json.dumps(answers))
    assert read_labels(forward) == read_labels(backward) == tuple(answers)


@pytest.mark.parametrize(
    ("document", "named"),
    [
        ({"yes": 0, "no": 0}, "'yes' and 'no' have the same label 0"),
        ({"yes": 0, "no": 2}, "the label of 'no' is 2, expected a number from 0 to 1"),
        ({"yes": 1, "no": 2}, "the label of 'no' is 2"),
        ({"yes": -1}, "the label of 'yes' is -1"),
        ({"yes": True}, "the label of 'yes' is true"),
        ({"yes": 0.0}, "the label of 'yes' is 0.0"),
        (["yes", "yes"], "an answer that is repeated"),
        (["yes", 1], "or is not a text"),
        ([], "expected an answer vocabulary"),
        ({}, "expected an answer vocabulary"),
        ("yes", "expected an answer vocabulary"),
    ],
)
def test_an_answer_vocabulary_is_a_bijection(document, named, tmp_path) -> None:
    path = tmp_path / "answers.json"
    path.write_text(json.dumps(document))
    assert named in complain(lambda: read_labels(path))


@pytest.mark.parametrize("value", [None, 3, "é", [], {"a": [1, {"b": None}]}, list(range(10**6)), {"x" * 100: 1}])
def test_a_value_in_a_sentence_is_its_json_cut_short(value) -> None:
    whole = json.dumps(value, ensure_ascii=False)
    said = shorten(value)
    assert len(said) <= 60
    assert said == whole if len(whole) <= 60 else said == f"{whole[:57]}..."
