"""Laws of the data kind `examples`: a table is the same data in every format, and what is wrong is one sentence."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError

from lxcompress.data.check import check_data
from lxcompress.data.tasks import load_task
from lxcompress.errors import DataError
from lxcompress.recipe import ExamplesData

LABELS = ("cat", "dog", "bird")


def make_rows(start: int, count: int) -> list[dict[str, Any]]:
    return [
        {
            "name": f"n{n}",
            "says": f"is thing {n} red?",
            "more": "it is big",
            "what": LABELS[n % 3],
            "file": f"{n % 4}.png",
        }
        for n in range(start, start + count)
    ]


def write_table(path: Path, rows: list[dict[str, Any]]) -> Path:
    if path.suffix == ".csv":
        with path.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, fieldnames=list(rows[0]))
            writer.writeheader()
            writer.writerows(
                {name: json.dumps(value) if isinstance(value, dict) else value for name, value in row.items()}
                for row in rows
            )
    elif path.suffix == ".parquet":
        arrow = pytest.importorskip("pyarrow")
        pytest.importorskip("pyarrow.parquet").write_table(arrow.Table.from_pylist(rows), path)
    else:
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def settings(folder: Path, ending: str = "csv", rows: Any = None, **more: Any) -> ExamplesData:
    """Settings of a table of 9 training rows, which `rows` may replace, and one of 4 validation rows."""
    train = write_table(folder / f"train.{ending}", rows or make_rows(0, 9))
    valid = write_table(folder / f"valid.{ending}", make_rows(9, 4))
    columns = {"label": "what", "text": "says", **more.pop("columns", {})}
    return ExamplesData(kind="examples", train=train, valid=valid, columns=columns, **more)


def save_images(folder: Path, count: int) -> Path:
    image = pytest.importorskip("PIL.Image")
    folder.mkdir()
    for number in range(count):
        image.new("RGB", (12, 12), (number * 60, 0, 255)).save(folder / f"{number}.png")
    return folder


@pytest.mark.parametrize("ending", ["csv", "jsonl", "parquet"])
def test_a_table_is_the_same_data_in_every_format(ending, tmp_path) -> None:
    soft = [{**row, "what": {row["what"]: 1.0, "cow": 0.3}} for row in make_rows(0, 9)]
    for rows, labels in ((None, ("bird", "cat", "dog")), (soft, ("cow", "bird", "cat", "dog"))):
        task = load_task(settings(tmp_path, ending, rows, columns={"second_text": "more", "id": "name"}))
        assert task.labels == labels
        assert task.valid.ids == ("n9", "n10", "n11", "n12")
        targets = task.train.targets(torch.arange(2), len(labels))
        expected = torch.zeros(2, len(labels))
        expected[0, labels.index("cat")] = expected[1, labels.index("dog")] = 1
        if rows:
            expected[:, 0] = 0.3
        assert torch.equal(targets, expected)
        [ids] = task.train.inputs(torch.tensor([0])).input_ids.tolist()
        separator = task.vocabulary.index("[SEP]")
        assert ids.count(separator) == 2  # after each of the two texts


def test_the_column_of_splits_divides_one_file(tmp_path) -> None:
    names = ("train", "train", "train", "val", "test", "TRAIN")
    rows = [{**row, "part": name} for row, name in zip(make_rows(0, 6), names, strict=True)]
    table = write_table(tmp_path / "all.jsonl", rows)
    columns = {"text": "says", "label": "what", "id": "name", "split": "part"}
    task = load_task(ExamplesData(kind="examples", train=table, valid=table, test=table, columns=columns))
    assert [split.ids for split in task.splits] == [("n0", "n1", "n2", "n5"), ("n3",), ("n4",)]


def test_images_of_a_folder_are_read_as_pixels(tmp_path) -> None:
    images = save_images(tmp_path / "photos", 4)
    task = load_task(settings(tmp_path, images=images, pixels=8, columns={"text": None, "image": "file"}))
    inputs = task.train.inputs(torch.arange(9))
    assert inputs.visual_feats.shape == (9, 1, 3 * 8 * 8)
    assert torch.equal(inputs.visual_feats[0], inputs.visual_feats[4])  # rows 0 and 4 name the same file
    red = inputs.visual_feats[:4, 0, 0]
    assert torch.allclose(red, torch.tensor([0.0, 60, 120, 180]) / 127.5 - 1)
    assert (inputs.attention_mask.sum(1) == 2).all()  # no text: [CLS] and [SEP]
    report = check_data(settings(tmp_path, images=images, pixels=8, columns={"text": None, "image": "file"}))
    assert not report.errors
    assert not [finding for finding in report.findings if "without a word" in finding.sentence]


def test_texts_alone_have_no_images(tmp_path) -> None:
    report = check_data(settings(tmp_path))
    assert next(fact.values for fact in report.facts if fact.name == "images") == {"train": 0, "valid": 0}
    assert not report.findings


def change(row: int, **values: Any) -> list[dict[str, Any]]:
    rows = make_rows(0, 9)
    rows[row].update(values)
    return rows


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([{**row, "what": "cat"} for row in make_rows(0, 9)], "has the same label in every row"),
        ([{**row, "what": ""} for row in make_rows(0, 9)], "has no answers to learn from; fill its column 'what'"),
        (change(4, what=None), "row 5 has no label in the column 'what', expected one in each row"),
        (change(4, what=1.5), "row 5 has 1.5 in the column 'what', expected a text, a whole number or"),
        (change(4, what={"cat": 2}), "row 5 credits 'cat' with 2, expected a number of 0 to 1; correct the row"),
        (change(4, what="{cat"), r"row 5 has soft labels in the column 'what' that are not JSON"),
        (change(4, says=3), "row 5 has 3 in the column 'says', expected a text"),
        ([{"says": "a", "label": "b"}], "has no column 'what', which data.columns.label names; its columns are 'says'"),
    ],
)
def test_a_wrong_table_is_one_sentence(rows, message, tmp_path) -> None:
    with pytest.raises(DataError, match=message) as caught:
        load_task(settings(tmp_path, "jsonl", rows))
    assert str(caught.value).startswith(str(tmp_path / "train.jsonl"))
    report = check_data(settings(tmp_path, "jsonl", rows))
    assert report.errors >= 1


def test_images_that_are_not_there_are_one_sentence(tmp_path) -> None:
    images = save_images(tmp_path / "photos", 2)
    given = settings(tmp_path, images=images, pixels=8, columns={"image": "file"})
    with pytest.raises(DataError, match=r"names 2 images \(2.png, 3.png\) that .*photos lacks; put them there, or"):
        load_task(given)
    for name in ("2.png", "3.png"):
        (images / name).write_bytes(b"no picture")
    found = [finding.sentence for finding in check_data(given).findings if finding.severity == "error"]
    assert len(found) == 2
    assert all("it is no JPEG, PNG or WebP" in sentence for sentence in found)


def test_a_row_without_any_credit_is_a_row(tmp_path) -> None:
    task = load_task(settings(tmp_path, "jsonl", change(4, what={})))
    assert len(task.train) == 9
    assert task.train.targets(torch.tensor([4]), 3).sum() == 0


def test_a_row_is_in_one_split(tmp_path) -> None:
    table = write_table(tmp_path / "all.csv", make_rows(0, 9))
    with pytest.raises(DataError, match="validate on questions that are not trained on"):
        load_task(ExamplesData(kind="examples", train=table, valid=table, columns={"text": "says", "label": "what"}))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("says,what\nred, or blue,cat\n", "line 2 has 3 values, expected 2, as many as the header"),
        ("says,says\na,b\n", "has two columns 'says'"),
        ('says,what\n"a,b\n', "line 2 is not CSV"),
        ("says,what\n", "has no row"),
    ],
)
def test_a_damaged_csv_is_one_sentence(text, message, tmp_path) -> None:
    given = settings(tmp_path)
    (tmp_path / "train.csv").write_text(text)
    with pytest.raises(DataError, match=message):
        load_task(given)


def test_a_damaged_parquet_is_one_sentence(tmp_path) -> None:
    given = settings(tmp_path, "parquet")
    (tmp_path / "train.parquet").write_bytes(b"PAR1 and no more")
    with pytest.raises(DataError, match="is damaged or not Parquet"):
        load_task(given)
    (tmp_path / "train.parquet").unlink()
    with pytest.raises(DataError, match="no such file"):
        load_task(given)


@pytest.mark.parametrize(
    ("columns", "more", "message"),
    [
        ({"text": None}, {}, "there is nothing to read"),
        ({"text": None, "second_text": "b", "image": "i"}, {}, "second_text and text go together"),
        ({"image": "i"}, {"images": "photos"}, "go together"),
        ({}, {"images": "photos", "pixels": 8}, "no effect without columns.image"),
        ({"image": "i"}, {"images": "photos", "pixels": 8, "features": "store"}, "give one or the other"),
        ({"label": "says"}, {}, "values must differ"),
    ],
)
def test_settings_that_do_not_fit_together_are_refused(columns, more, message) -> None:
    with pytest.raises(ValidationError, match=message):
        ExamplesData(kind="examples", train="t.csv", valid="v.csv", columns={"text": "says", **columns}, **more)
