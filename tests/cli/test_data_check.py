"""Laws of `lxcompress data check`: sound data have no error; each damage is found and named, the rest still told."""

from __future__ import annotations

import gzip
import json
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import yaml
from typer.testing import CliRunner

from lxcompress.cli.main import app
from lxcompress.data.regions.prepare import prepare_store
from lxcompress.errors import DataError
from tests import children
from tests.cli.test_predict import write_vqa
from tests.data.regions.pictures import pictures, row, write_tsv

FEATURES = 18
"""What the toy reads."""


@pytest.fixture
def folder(tmp_path, toy_start) -> Path:
    """VQA in the official form over a store of features, and its recipe."""
    train, valid = write_vqa(tmp_path, "train", 60, 1000), write_vqa(tmp_path, "valid", 24, 5000)
    images = pictures(10, features=FEATURES)
    numbers = [*range(100, 106), *range(500, 503), 900]
    rows = [row(image, img_id=f"COCO_train2014_{n:012d}") for image, n in zip(images, numbers, strict=True)]
    write_tsv(tmp_path / "regions.tsv", rows)
    prepare_store([tmp_path / "regions.tsv"], tmp_path / "store")
    answers = ["", "yes", "no", "red", "2", "3", "metal", *(f"else {index}" for index in range(10))]
    (tmp_path / "answers.json").write_text(json.dumps({answer: index for index, answer in enumerate(answers)}))
    recipe = {
        "name": "checked",
        "data": {
            "kind": "vqa",
            "train": str(train[0]),
            "train_annotations": str(train[1]),
            "valid": str(valid[0]),
            "valid_annotations": str(valid[1]),
            "answers": str(tmp_path / "answers.json"),
            "features": str(tmp_path / "store"),
        },
        "model": {"start": str(toy_start)},
    }
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(recipe), encoding="utf-8")
    return tmp_path


def checked(target: Path, *options: str) -> dict:
    """What the command finds, as JSON; its exit code says whether there is an error."""
    done = CliRunner().invoke(app, ["data", "check", str(target), "--json", *options])
    found = json.loads(done.stdout)
    if found["errors"]:
        assert isinstance(done.exception, DataError)
    else:
        assert done.exit_code == 0, done.output
    assert found["errors"] == sum(finding["severity"] == "error" for finding in found["findings"])
    return found


def errors(found: dict) -> list[tuple[str, str]]:
    return [(finding["where"], finding["sentence"]) for finding in found["findings"] if finding["severity"] == "error"]


def facts(found: dict) -> dict[str, dict]:
    return {fact["name"]: fact["values"] for fact in found["facts"]}


def rewrite(path: Path, change: Callable[[dict], None]) -> None:
    document = json.loads(path.read_text())
    change(document)
    path.write_text(json.dumps(document))


def test_sound_data_have_no_error(folder) -> None:
    found = checked(folder / "recipe.yaml")
    assert errors(found) == []
    told = facts(found)
    assert told["questions"] == {"train": 60, "valid": 24}
    assert told["of type yes/no"] == {"train": 20, "valid": 8}
    assert told["repeated questions"]["train"] > 0


def test_it_reads_at_sixty_columns(folder) -> None:
    damage_missing(folder)
    damage_byte(folder)
    # A program of its own: the console reads its width when it starts.
    words = ("data", "check", "recipe.yaml")
    done = children.run(children.COMMAND, *words, cwd=folder, env=os.environ | {"COLUMNS": "60"})
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith("error: recipe.yaml: 2 problems, listed above")
    lines = done.stdout.splitlines()
    assert max(map(len, lines)) <= 60
    heading = next(line for line in lines if line.split() == ["train", "valid"])
    questions = next(line for line in lines if line.split()[:1] == ["questions"])
    assert questions.split() == ["questions", "60", "24"]
    assert len(questions) == len(heading)
    assert lines[-1].startswith("2 errors, ")


def test_json_is_all_that_standard_output_gets(folder) -> None:
    damage_byte(folder)
    done = CliRunner().invoke(app, ["data", "check", str(folder / "recipe.yaml"), "--json"])
    assert set(json.loads(done.stdout)) == {"checked", "errors", "warnings", "facts", "findings"}
    assert (
        str(done.exception) == f"{folder / 'recipe.yaml'}: 1 problem, listed above; fix these and run the check again"
    )


def test_errors_are_listed_before_warnings(folder) -> None:
    damage_byte(folder)
    found = checked(folder / "recipe.yaml", "--set", "data.tokens=4")
    assert [finding["severity"] for finding in found["findings"]] == ["error", "warning", "warning"]


def test_a_start_model_that_is_missing_is_a_finding_and_the_data_are_checked(folder) -> None:
    found = checked(folder / "recipe.yaml", "--set", "model.start=absent")
    assert [where for where, _ in errors(found)] == ["absent"]
    told = facts(found)
    assert told["questions"] == {"train": 60, "valid": 24}
    assert "unknown tokens" not in told


def test_a_setting_has_no_place_beside_a_store(folder) -> None:
    done = CliRunner().invoke(app, ["data", "check", str(folder / "store"), "--set", "data.tokens=5"])
    assert done.exit_code == 2


def damage_missing(folder: Path) -> str:
    (folder / "train_annotations.json").unlink()
    return "no such file"


def damage_gzip(folder: Path) -> str:
    path = folder / "valid_questions.json"
    path.write_bytes(gzip.compress(path.read_bytes())[:-20])
    return "damaged"


def damage_twice(folder: Path) -> str:
    rewrite(folder / "train_questions.json", lambda document: document["questions"].append(document["questions"][0]))
    return "twice"


def damage_shared(folder: Path) -> str:
    write_vqa(folder, "valid", 24, 1036)
    return "1036"


def damage_annotations(folder: Path) -> str:
    (folder / "valid_annotations.json").write_bytes((folder / "train_annotations.json").read_bytes())
    return "of the same split"


def damage_vocabulary(folder: Path) -> str:
    (folder / "answers.json").write_text(json.dumps({"left": 0, "right": 1}))
    return "answer"


def damage_image(folder: Path) -> str:
    write_vqa(folder, "train", 80, 1000)
    return "106"


def damage_byte(folder: Path) -> str:
    data = bytearray((folder / "store" / "features.npy").read_bytes())
    data[-5] ^= 1
    (folder / "store" / "features.npy").write_bytes(data)
    return "features.npy"


def damage_store(folder: Path) -> str:
    (folder / "store" / "store.json").unlink()
    return "store"


@pytest.mark.parametrize(
    "damage",
    [
        damage_missing,
        damage_gzip,
        damage_twice,
        damage_shared,
        damage_annotations,
        damage_vocabulary,
        damage_image,
        damage_byte,
        damage_store,
    ],
    ids=lambda damage: damage.__name__.removeprefix("damage_"),
)
def test_each_damage_is_found_and_the_rest_still_told(damage, folder) -> None:
    said = damage(folder)
    found = checked(folder / "recipe.yaml")
    assert any(said in f"{where} {sentence}" for where, sentence in errors(found)), errors(found)
    assert "questions" in facts(found)


def test_features_of_another_size_are_found(folder) -> None:
    found = checked(folder / "recipe.yaml", "--set", "model.start=mini", "--set", f"data.features={folder / 'other'}")
    assert errors(found)
    images = pictures(3, features=20)
    write_tsv(folder / "other.tsv", [row(image) for image in images])
    prepare_store([folder / "other.tsv"], folder / "other")
    found = checked(folder / "recipe.yaml", "--set", f"data.features={folder / 'other'}")
    assert any("20" in sentence and "18" in sentence for _, sentence in errors(found)), errors(found)


def test_features_that_are_no_numbers_are_found_without_a_checksum_too(folder) -> None:
    features = np.load(folder / "store" / "features.npy")
    features[2, 0, 3] = np.nan
    np.save(folder / "store" / "features.npy", features)
    sentences = " ".join(sentence for _, sentence in errors(checked(folder / "store")))
    assert "finite" in sentences or "number" in sentences
    assert errors(checked(folder / "recipe.yaml", "--fast")) == []


def test_a_store_is_checked_alone(folder) -> None:
    found = checked(folder / "store")
    assert errors(found) == []
    assert facts(found)["images in the store"]["all"] == 10
    data = bytearray((folder / "store" / "boxes.npy").read_bytes())
    data[-2] = 0x7F
    (folder / "store" / "boxes.npy").write_bytes(data)
    assert any("boxes.npy" in where + sentence for where, sentence in errors(checked(folder / "store")))


def test_several_damages_are_all_found(folder) -> None:
    damage_missing(folder)
    damage_byte(folder)
    (folder / "answers.json").write_text("{")
    found = " ".join(where for where, _ in errors(checked(folder / "recipe.yaml")))
    assert all(name in found for name in ("train_annotations.json", "features.npy", "answers.json"))


@pytest.mark.parametrize("kind", ["scenes", "nlvr2", "nlvr", "clevr", "gqa"])
def test_missing_files_of_every_kind_are_findings(kind, tmp_path) -> None:
    data = {
        "scenes": {"train": 40, "valid": 20},
        "clevr": {"scenes": "s.json", "questions": "q.json"},
        "gqa": {"train": "t.json", "valid": "v.json"},
        "nlvr2": {"train": "t.json", "valid": "v.json"},
        "nlvr": {"train": "t.json"},
    }[kind]
    path = tmp_path / "recipe.yaml"
    path.write_text(yaml.safe_dump({"name": "n", "data": {"kind": kind, **data}}), encoding="utf-8")
    found = checked(path)
    missing = [name for name in data.values() if isinstance(name, str)]
    assert len(errors(found)) == len(missing)
    for name in missing:
        assert any(name in where for where, _ in errors(found))


def test_a_missing_file_of_a_recipe_that_ships_names_the_command_that_fetches_it(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(app, ["data", "check", "thesis", "--json"])
    findings = {finding["where"]: finding["sentence"] for finding in json.loads(done.stdout)["findings"]}
    for path, name in (
        ("data/bert-vocab/vocab.txt", "bert-vocab"),
        ("data/lxmert/model_LXRT.pth", "lxmert"),
        ("data/lxmert/all_ans.json", "lxmert"),
        ("data/lxmert-vqa/train.json", "lxmert-vqa"),
    ):
        assert findings[path] == f"no such file; fetch it with: lxcompress data fetch {name}"
    assert "lxcompress data fetch coco-obj36 && lxcompress data prepare data/coco-obj36/" in findings["data/coco36"]
    assert not any("Errno" in sentence for sentence in findings.values())
