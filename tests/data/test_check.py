"""Laws of the check: sound data are left in peace, each damage is one finding, and the facts are those of the Task."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lxcompress.data.bert_rules import UNKNOWN
from lxcompress.data.check import WHOLE, CheckReport, Finding, check_data, check_store
from lxcompress.data.fit import ModelShape
from lxcompress.data.objects import FEATURES
from lxcompress.data.regions.prepare import prepare_store
from lxcompress.data.split import Split
from lxcompress.data.tasks import load_task
from lxcompress.data.tokens import read_vocabulary, shipped_vocabulary
from lxcompress.errors import DataError
from lxcompress.recipe import AnyData, ClevrData, GqaData, Nlvr2Data, NlvrData, ScenesData, VqaData
from tests.data import test_clevr as of_clevr
from tests.data import test_gqa as of_gqa
from tests.data import test_nlvr as of_nlvr
from tests.data import test_nlvr2 as of_nlvr2
from tests.data import test_vizwiz as of_vizwiz
from tests.data import test_vqa as of_vqa
from tests.data.regions.pictures import pictures, real_file, row, write_tsv
from tests.real import real

TOKENS = 40
"""Holds the toy questions whole: the shipped vocabulary spells most words."""
SIZE = 12
IMAGES = [*(f"COCO_train2014_{n:012d}" for n in range(4)), *(f"COCO_val2014_{n:012d}" for n in (10, 11))]
"""What the toy VQA asks about."""
Damage = Callable[[Path, VqaData], VqaData]


def check(settings: AnyData, **fields: Any) -> CheckReport:
    return check_data(settings, shipped_vocabulary(), **fields)


def facts(found: CheckReport) -> dict[str, Mapping[str, Any]]:
    return {fact.name: fact.values for fact in found.facts}


def make_store(folder: Path, images: list[str] = IMAGES) -> Path:
    made = [replace(picture, image=name) for picture, name in zip(pictures(len(images)), images, strict=True)]
    prepare_store([write_tsv(folder / "regions.tsv", [row(each) for each in made])], folder / "store", objects=5)
    return folder / "store"


def vqa(folder: Path, **fields: Any) -> VqaData:
    """Official files over a store."""
    return of_vqa.official(folder, features=make_store(folder), tokens=TOKENS, **fields)


def seal(store: Path, name: str) -> None:
    """Writes the checksum of what the file holds now: damage from before it was stored."""
    record = json.loads((store / "store.json").read_text(encoding="utf-8"))
    data = (store / name).read_bytes()[128 if name.endswith(".npy") else 0 :]
    record["files"][name]["sha256"] = hashlib.sha256(data).hexdigest()
    record.pop("seal", None)  # as an earlier version wrote it
    (store / "store.json").write_text(json.dumps(record), encoding="utf-8")


def change(store: Path, name: str, place: tuple[int, ...], value: float) -> None:
    array = np.load(store / name, mmap_mode="r+")
    array[place] = value
    array.flush()


def rewrite(path: Path, edit: Callable[[Any], None]) -> None:
    document = json.loads(path.read_text(encoding="utf-8"))
    edit(document)
    if path.name == "store.json":
        document.pop("seal", None)  # as an earlier version wrote it
    path.write_text(json.dumps(document), encoding="utf-8")


SOUND: dict[str, Callable[[Path], AnyData]] = {
    "scenes": lambda folder: ScenesData(kind="scenes", train=64, valid=32),
    "scenes, with a test split": lambda folder: ScenesData(kind="scenes", train=64, valid=32, test=16),
    "clevr": lambda folder: of_clevr.settings(folder),
    "clevr, with a test split": lambda folder: of_clevr.settings(folder, test=5),
    "clevr, files of its own": lambda folder: of_clevr.settings(
        folder,
        valid_scenes=of_clevr.write(folder / "valid-scenes.json", of_clevr.scenes_file(3, first=20)),
        valid_questions=of_clevr.write(folder / "valid-questions.json", of_clevr.questions_file(3, first=20)),
    ),
    "vqa": vqa,
    "vqa, zipped": lambda folder: of_vqa.official(folder, suffix=".zip", tokens=TOKENS),
    "vqa, its own answers": lambda folder: vqa(folder, answers=None),
    "vqa, LXMERT's": lambda folder: of_vqa.redistributed(folder, features=make_store(folder), tokens=TOKENS),
    "vqa, with a test split": lambda folder: of_vqa.redistributed(
        folder,
        features=make_store(folder, [*IMAGES, "COCO_val2014_000000000020"]),
        tokens=TOKENS,
        test=of_vqa.write(
            folder / "test.json",
            [question | {"img_id": "COCO_val2014_000000000020"} for question in of_vqa.lxmert(range(200, 210))],
        ),
    ),
    "vqa, a part": lambda folder: vqa(folder, max_train=7, max_valid=3),
    "vizwiz": lambda folder: of_vizwiz.settings(folder, *of_vizwiz.documents(grey=3, blue=6), tokens=TOKENS),
    "gqa": lambda folder: of_gqa.settings(folder, tokens=TOKENS),
    "gqa, LXMERT's": lambda folder: of_gqa.settings(folder, of_gqa.lxmert, tokens=TOKENS),
    "nlvr2": lambda folder: of_nlvr2.settings(folder, tokens=TOKENS),
    "nlvr2, LXMERT's": lambda folder: of_nlvr2.settings(folder, of_nlvr2.lxmert, tokens=TOKENS),
    "nlvr": lambda folder: of_nlvr.settings(folder),
    "nlvr, files of its own": lambda folder: of_nlvr.settings(
        folder, valid=of_nlvr.write(folder / "valid.json", of_nlvr.records(range(20, 24)))
    ),
}


@pytest.fixture(params=list(SOUND))
def sound(request, tmp_path) -> AnyData:
    return SOUND[request.param](tmp_path)


def test_sound_data_are_left_in_peace(sound) -> None:
    found = check(sound, model=ModelShape("start", feature_size=SIZE if getattr(sound, "features", None) else FEATURES))
    expected = ()
    if isinstance(sound, GqaData):  # whose toy asks about an image in both splits: three questions an image, 30 asked
        expected = tuple(finding for finding in found.findings if "images are in" in finding.sentence)
    assert found.findings == expected
    assert found.errors == 0


def test_the_facts_are_those_of_the_task(sound) -> None:
    task, told = load_task(sound), facts(check(sound))
    assert ("test" in told["questions"]) == (task.test is not None)
    for split, held in zip(("train", "valid", "test"), task.splits, strict=False):
        assert told["questions"][split] == len(held)
        for kind in set(held.types) if len(set(task.train.types + task.valid.types)) > 1 else ():
            assert told[f"of type {kind}"][split] == held.types.count(kind)
        best = held.credits.max(1).values.double().mean().item()
        assert told.get("best possible score", {split: 1.0})[split] == pytest.approx(best, abs=1e-6)
        if split in told["commonest answer"] and told["commonest answer"][split] in task.labels:
            label = task.labels.index(told["commonest answer"][split])
            assert told["score of giving only that"][split] == pytest.approx(score_of(label, held), abs=1e-6)
            assert score_of(label, held) >= max(score_of(other, held) for other in range(len(task.labels))) - 1e-6
    if "answers with a label" in told:
        assert told["answers with a label"][WHOLE] == len(task.labels)


def score_of(label: int, split: Split) -> float:
    return float((split.credits * (split.answers == label)).sum(1).mean())


def test_tokens_are_counted_as_the_model_gets_them(tmp_path) -> None:
    words = ["red?", "Is the red cube left of the sphere?", "日本 日本 red", "red?", "a red red red red cube"]
    asked = [each | {"sent": text} for each, text in zip(of_vqa.lxmert(range(5)), words, strict=True)]
    data = of_vqa.redistributed(tmp_path, train=of_vqa.write(tmp_path / "t.json", asked), tokens=512)
    ids = load_task(data).train.input_ids
    lengths = (ids != 0).sum(1)
    for limit in (4, 5, 7, 20):
        told = facts(check(data.model_copy(update={"tokens": limit})))
        assert told[f"longer than {limit} tokens"]["train"] == pytest.approx(float((lengths > limit).float().mean()))
        assert told["tokens of the longest question"]["train"] == int(lengths.max())
        unknown = int((ids == shipped_vocabulary().index(UNKNOWN)).sum())
        assert unknown > 0
        assert told["unknown tokens"]["train"] == pytest.approx(unknown / int((lengths - 2).sum()))


def test_the_proposed_tokens_end_the_complaint(tmp_path) -> None:
    data = of_vqa.official(tmp_path, tokens=5)
    proposed = [int(finding.sentence.rpartition("data.tokens=")[2].split()[0]) for finding in check(data).findings]
    assert len(proposed) == len(("train", "valid"))
    assert check(data.model_copy(update={"tokens": max(proposed)})).findings == ()
    assert check(data.model_copy(update={"tokens": min(proposed) - 1})).findings


# Each of these is one thing that is wrong with the toy VQA: it returns the settings to check, or the same.


def missing_file(folder: Path, data: VqaData) -> VqaData:
    data.train[0].unlink()
    return data


def missing_annotations(folder: Path, data: VqaData) -> VqaData:
    data.valid_annotations[0].unlink()
    return data


def truncated_gzip(folder: Path, data: VqaData) -> VqaData:
    packed = of_vqa.write(folder / "packed.json.gz", json.loads(data.valid[0].read_text(encoding="utf-8")))
    packed.write_bytes(packed.read_bytes()[:-9])
    return data.model_copy(update={"valid": (packed,)})


def web_page(folder: Path, data: VqaData) -> VqaData:
    data.train_annotations[0].write_text("<html>not found</html>", encoding="utf-8")
    return data


def exchanged_files(folder: Path, data: VqaData) -> VqaData:
    return data.model_copy(update={"train": data.train_annotations})


def duplicated_question(folder: Path, data: VqaData) -> VqaData:
    rewrite(data.train[0], lambda document: document["questions"].append(document["questions"][4]))
    return data


def duplicated_annotation(folder: Path, data: VqaData) -> VqaData:
    rewrite(data.train_annotations[0], lambda document: document["annotations"].append(document["annotations"][4]))
    return data


def shared_question(folder: Path, data: VqaData) -> VqaData:
    of_vqa.write(data.valid[0], of_vqa.questions([*range(100, 120), 7]))
    of_vqa.write(data.valid_annotations[0], of_vqa.annotations([*range(100, 120), 7]))
    return data


def annotations_of_another_split(folder: Path, data: VqaData) -> VqaData:
    of_vqa.write(folder / "a-copy.json", of_vqa.annotations(range(40)))
    return data.model_copy(update={"valid_annotations": (folder / "a-copy.json",)})


def question_without_annotation(folder: Path, data: VqaData) -> VqaData:
    rewrite(data.valid_annotations[0], lambda document: document["annotations"].pop(3))
    return data


def annotation_without_question(folder: Path, data: VqaData) -> VqaData:
    rewrite(data.valid[0], lambda document: document["questions"].pop(3))
    return data


def annotation_of_another_image(folder: Path, data: VqaData) -> VqaData:
    rewrite(data.valid_annotations[0], lambda document: document["annotations"][3].update(image_id=9))
    return data


def question_without_words(folder: Path, data: VqaData) -> VqaData:
    rewrite(data.train[0], lambda document: document["questions"][3].pop("question"))
    return data


def answer_of_no_text(folder: Path, data: VqaData) -> VqaData:
    rewrite(data.train_annotations[0], lambda document: document["annotations"][3]["answers"][1].update(answer=2))
    return data


def credit_out_of_range(folder: Path, data: VqaData) -> VqaData:
    path = of_vqa.write(folder / "minival.json", of_vqa.lxmert(range(100, 120), "val2014"))
    rewrite(path, lambda document: document[5]["label"].update(yes=1.5))
    return data.model_copy(update={"valid": (path,), "valid_annotations": None})


def answers_of_another_data_set(folder: Path, data: VqaData) -> VqaData:
    of_vqa.write(data.answers, ["left", "right", "sky"])
    return data


def answers_with_a_gap(folder: Path, data: VqaData) -> VqaData:
    of_vqa.write(data.answers, {"yes": 0, "2": 2, "red": 7})
    return data


def no_store(folder: Path, data: VqaData) -> VqaData:
    return data.model_copy(update={"features": folder / "absent"})


def image_not_in_the_store(folder: Path, data: VqaData) -> VqaData:
    rewrite(data.valid[0], lambda document: document["questions"][0].update(image_id=99))
    rewrite(data.valid_annotations[0], lambda document: document["annotations"][0].update(image_id=99))
    return data


REFUSED: tuple[tuple[Damage, str, str], ...] = (
    (missing_file, "q-train.json", "no such file"),
    (missing_annotations, "a-valid.json", "no such file"),
    (truncated_gzip, "packed.json.gz", "is damaged or not JSON"),
    (web_page, "a-train.json", "is damaged or not JSON"),
    (exchanged_files, "a-train.json", "is VQA's annotations JSON"),
    (duplicated_question, "q-train.json", "question id 4 comes twice"),
    (duplicated_annotation, "a-train.json", "annotates question id 4 twice"),
    (shared_question, "q-valid.json", "question id 7 is in"),
    (annotations_of_another_split, "a-copy.json", "answers none of the questions of"),
    (question_without_annotation, "q-valid.json", "asks question 103 that"),
    (annotation_without_question, "a-valid.json", "answers question 103 that"),
    (annotation_of_another_image, "q-valid.json", "question id 103 is about image 10, and in its annotation about 9"),
    (question_without_words, "q-train.json", "question 3 is"),
    (answer_of_no_text, "a-train.json", "question id 3 has"),
    (credit_out_of_range, "minival.json", "question id 105 credits 'yes' with 1.5"),
    (answers_of_another_data_set, "ans2label.json", "has an answer to 0 % (train) and 0 % (valid)"),
    (answers_with_a_gap, "ans2label.json", "the label of 'red' is 7"),
    (no_store, "absent", "is not a store of region features"),
    (image_not_in_the_store, "q-valid.json", "asks about image COCO_val2014_000000000099 that"),
)
"""What loading refuses too, with the file and the words of the one finding."""


@pytest.mark.parametrize(("damage", "file", "said"), REFUSED, ids=[case[0].__name__ for case in REFUSED])
def test_what_loading_refuses_is_one_finding_and_the_rest_is_still_told(damage, file, said, tmp_path) -> None:
    before = facts(check(vqa(tmp_path)))
    data = damage(tmp_path, vqa_again(tmp_path))
    with pytest.raises(DataError):
        load_task(data)
    found = check(data)
    (finding,) = found.findings
    assert (finding.severity, Path(finding.where).name) == ("error", file)
    assert said in finding.sentence
    assert ";" in finding.sentence  # what comes behind it is the remedy
    told = facts(found)
    other = "train" if "valid" in file or file in ("packed.json.gz", "minival.json", "a-copy.json") else "valid"
    for name in ("questions", "images", "with an answer", "tokens of the longest question"):
        assert told[name][other] == before[name][other]
    if damage is not no_store:
        assert told["images in the store"] == before["images in the store"]


def vqa_again(folder: Path) -> VqaData:
    """The same files, over the store that is there."""
    return of_vqa.official(folder, features=folder / "store", tokens=TOKENS)


def test_everything_is_found_at_once_and_errors_come_first(tmp_path) -> None:
    data = vqa(tmp_path)
    lxmert = of_vqa.write(tmp_path / "more.json", of_vqa.lxmert([*range(30, 50), 400]))
    rewrite(lxmert, lambda document: document[-1].update(sent=" "))
    data = data.model_copy(update={"train": (tmp_path / "absent.json", *data.train, lxmert), "max_valid": 5})
    for damage in (question_without_annotation, answers_with_a_gap):
        data = damage(tmp_path, data)
    change(data.features, "features.npy", (1, 0, 3), 7)
    found = check(data, model=ModelShape("start", feature_size=2048))
    where = [Path(finding.where).name for finding in found.findings]
    assert [finding.severity for finding in found.findings] == ["error"] * found.errors + ["warning"] * found.warnings
    assert {"absent.json", "more.json", "q-valid.json", "ans2label.json", "features.npy", "start"} <= set(where)
    twice = next(finding.sentence for finding in found.findings if "come twice" in finding.sentence)
    assert "10 question ids (30, 31, 32 and 7 more)" in twice
    missing = next(finding for finding in found.findings if "lacks" in finding.sentence)
    assert "COCO_train2014_000000000040" in missing.sentence
    assert missing.where == str(lxmert)
    assert "without a word" in next(finding.sentence for finding in found.findings if finding.severity == "warning")


def test_records_that_are_refused_for_the_same_are_one_finding_with_their_number(tmp_path) -> None:
    path = of_vqa.write(tmp_path / "t.json", of_vqa.lxmert(range(40)))

    def edit(document: Any) -> None:
        for place in (3, 7, 20):
            document[place]["label"]["yes"] = -place
        document[9] = "?"

    rewrite(path, edit)
    one, other = check(of_vqa.redistributed(tmp_path, train=path, tokens=TOKENS)).findings
    assert one.sentence.startswith("question id 3 credits 'yes' with -3")
    assert one.sentence.endswith("(the first of 3 such problems)")
    assert other.sentence.startswith('question 9 is "?"')


@pytest.mark.parametrize("files", ["train", "valid"])
def test_a_split_without_answers_is_told(files, tmp_path) -> None:
    found = check(vqa(tmp_path, **{f"{files}_annotations": None}))
    assert [finding.severity for finding in found.findings] == ["error" if files == "train" else "warning"]
    assert "has no answers" in found.findings[0].sentence
    assert facts(found)["with an answer"][files] == 0


def test_images_of_both_splits_are_a_warning(tmp_path) -> None:
    data = vqa(tmp_path)
    of_vqa.write(data.valid[0], of_vqa.questions([*range(40, 43), 110]) | {"data_subtype": "train2014"})
    rewrite(data.valid[0], lambda document: [question.update(image_id=3) for question in document["questions"][:3]])
    of_vqa.write(data.valid_annotations[0], of_vqa.annotations([*range(40, 43), 110]))
    rewrite(
        data.valid_annotations[0],
        lambda document: [annotation.pop("image_id") for annotation in document["annotations"]],
    )
    found = check(data.model_copy(update={"features": None}))
    (finding,) = found.findings
    assert finding.severity == "warning"
    assert finding.sentence.startswith(f"1 of 2 images are in {data.train[0]} too (COCO_train2014_000000000003)")


def test_choices_without_a_label_are_told(tmp_path) -> None:
    data = vqa(tmp_path)

    def offer(document: Any) -> None:
        for index, question in enumerate(document["questions"]):
            question["multiple_choices"] = ["yes", "green"] if index else ["green", "blue"]

    rewrite(data.train[0], offer)
    found = check(data)
    assert facts(found)["multiple-choice questions"] == {"train": 40}
    assert facts(found)["choices with a label"]["train"] == pytest.approx(39 / 80)
    (finding,) = found.findings
    assert (finding.severity, finding.where) == ("warning", str(data.train[0]))
    assert finding.sentence.startswith("question id 0 offers no choice with a label")


def gqa(folder: Path, train: Any, valid: Any) -> GqaData:
    return of_gqa.settings(
        folder,
        train=of_gqa.write(folder / "t.json", train),
        valid=of_gqa.write(folder / "v.json", valid),
        tokens=TOKENS,
    )


def nlvr2(folder: Path, train: Any, valid: Any) -> Nlvr2Data:
    return Nlvr2Data(
        kind="nlvr2",
        train=of_nlvr2.write(folder / "t.json", train),
        valid=of_nlvr2.write(folder / "v.json", valid),
        tokens=TOKENS,
    )


def nlvr(folder: Path, train: Any, valid: Any) -> NlvrData:
    return NlvrData(
        kind="nlvr", train=of_nlvr.write(folder / "t.json", train), valid=of_nlvr.write(folder / "v.json", valid)
    )


def others(make: Callable[[Path, Any, Any], AnyData]) -> tuple[list[Any], list[Any]]:
    """The records of both splits of a sound data set."""
    if make is gqa:
        return of_gqa.lxmert(range(30)), of_gqa.lxmert(range(30, 36))
    if make is nlvr2:
        return of_nlvr2.official(range(12), "train"), of_nlvr2.official(range(8), "dev")
    return of_nlvr.records(range(6)), of_nlvr.records(range(10, 13))


BAD_RECORDS: tuple[tuple[str, Callable[[list[Any], list[Any]], object], str, tuple[str, ...]], ...] = (
    ("no record", lambda train, valid: valid.__setitem__(3, {}), "v.json", ("3 is {}",)),
    ("twice", lambda train, valid: train.append(train[4]), "t.json", ("comes twice",)),
    ("empty", lambda train, valid: train.clear(), "t.json", ("has no question", "is empty")),
)


@pytest.mark.parametrize("make", [gqa, nlvr2, nlvr], ids=lambda make: make.__name__)
@pytest.mark.parametrize(
    ("edit", "file", "said"), [bad_record[1:] for bad_record in BAD_RECORDS], ids=[e[0] for e in BAD_RECORDS]
)
def test_a_bad_record_of_another_kind_is_one_finding(make, edit, file, said, tmp_path) -> None:
    train, valid = others(make)
    assert check(make(tmp_path, train, valid)).findings == ()
    edit(train, valid)
    data = make(tmp_path, train, valid)
    with pytest.raises(DataError):
        load_task(data)
    (finding,) = check(data).findings
    assert (finding.severity, finding.where) == ("error", str(tmp_path / file))
    assert any(sentence in finding.sentence for sentence in said)
    other = "train" if file == "v.json" else "valid"
    assert facts(check(data))["questions"][other] == len(train if other == "train" else valid)


def test_questions_of_both_splits_are_an_error_for_gqa_and_nlvr2_too(tmp_path) -> None:
    for make in (gqa, nlvr2):
        train, valid = others(make)
        data = make(tmp_path, train, [*valid, train[0]])
        with pytest.raises(DataError):
            load_task(data)
        (finding,) = check(data).findings
        assert f"is in {tmp_path / 't.json'} too" in finding.sentence


# Stores.


def broken_byte(store: Path) -> None:
    data = bytearray((store / "features.npy").read_bytes())
    data[300] ^= 1
    (store / "features.npy").write_bytes(data)


def no_number(store: Path) -> None:
    change(store, "features.npy", (2, 0, 5), np.nan)
    seal(store, "features.npy")


def infinite(store: Path) -> None:
    change(store, "features.npy", (2, 1, 0), -np.inf)
    seal(store, "features.npy")


def all_zero(store: Path) -> None:
    change(store, "features.npy", (2, 1), 0)
    seal(store, "features.npy")


def box_outside(store: Path) -> None:
    change(store, "boxes.npy", (2, 0, 3), 1.01)
    seal(store, "boxes.npy")


def box_of_no_number(store: Path) -> None:
    change(store, "boxes.npy", (2, 0, 3), np.nan)
    seal(store, "boxes.npy")


def box_turned(store: Path) -> None:
    change(store, "boxes.npy", (2, 0, 0), 1)
    change(store, "boxes.npy", (2, 0, 2), 0)
    seal(store, "boxes.npy")


def no_region(store: Path) -> None:
    change(store, "objects.npy", (2,), 0)
    seal(store, "objects.npy")


def id_twice(store: Path) -> None:
    lines = (store / "ids.txt").read_text(encoding="utf-8").splitlines()
    (store / "ids.txt").write_text("\n".join([*lines[:5], lines[2]]) + "\n", encoding="utf-8")
    seal(store, "ids.txt")
    rewrite(store / "store.json", lambda record: record["files"]["ids.txt"].update(size_bytes=length(store)))


def length(store: Path) -> int:
    return (store / "ids.txt").stat().st_size


def id_missing(store: Path) -> None:
    lines = (store / "ids.txt").read_text(encoding="utf-8").splitlines()
    (store / "ids.txt").write_text("\n".join(lines[:5]) + "\n", encoding="utf-8")
    seal(store, "ids.txt")
    rewrite(store / "store.json", lambda record: record["files"]["ids.txt"].update(size_bytes=length(store)))


def file_missing(store: Path) -> None:
    (store / "boxes.npy").unlink()


def file_cut(store: Path) -> None:
    (store / "features.npy").write_bytes((store / "features.npy").read_bytes()[:-10])


def another_shape(store: Path) -> None:
    np.save(store / "objects.npy", np.ones(5, np.int32))


def left_out(store: Path) -> None:
    rewrite(store / "store.json", lambda record: record.update(skipped=3))


THIRD = f"image {IMAGES[2]}"
DAMAGED: tuple[tuple[Callable[[Path], None], str, str, str], ...] = (
    (broken_byte, "error", "features.npy", "its checksum differs"),
    (no_number, "error", "features.npy", f"has {THIRD} with a feature that is NaN or infinite"),
    (infinite, "error", "features.npy", f"has {THIRD} with a feature that is NaN or infinite"),
    (all_zero, "warning", "features.npy", f"1 region of {THIRD} has only zeros as features"),
    (box_outside, "error", "boxes.npy", f"has {THIRD} with a box outside 0-1"),
    (box_of_no_number, "error", "boxes.npy", f"has {THIRD} with a box outside 0-1"),
    (box_turned, "error", "boxes.npy", f"has {THIRD} with a box that ends before it begins"),
    (no_region, "error", "objects.npy", f"has {THIRD} with fewer than 1 or more than 5 regions"),
    (id_twice, "error", "ids.txt", f"has id {IMAGES[2]} twice"),
    (id_missing, "error", "ids.txt", "has 5 ids, but store.json has 6"),
    (file_missing, "error", "boxes.npy", "is damaged or missing"),
    (file_cut, "error", "features.npy", "is damaged or missing"),
    (another_shape, "error", "objects.npy", "holds int32 [5], but store.json has int32 [6]"),
    (left_out, "warning", "store", "3 rows of its sources were left out"),
)


@pytest.mark.parametrize(("damage", "severity", "file", "said"), DAMAGED, ids=[case[0].__name__ for case in DAMAGED])
def test_each_damage_of_a_store_is_one_finding(damage, severity, file, said, tmp_path) -> None:
    store = make_store(tmp_path)
    damage(store)
    found = check_store(store)
    (finding,) = found.findings
    assert (finding.severity, Path(finding.where).name) == (severity, file)
    assert said in finding.sentence
    assert facts(found)["images in the store"] == {WHOLE: 6}


def test_damages_of_a_store_are_found_together_and_in_a_recipe_too(tmp_path) -> None:
    data = vqa(tmp_path)
    for damage in (all_zero, broken_byte, box_outside, left_out):
        damage(data.features)
    alone = check_store(data.features).findings
    assert len(alone) == 4
    assert check(data).findings == alone


def test_a_fast_check_reads_no_features_and_says_so(tmp_path) -> None:
    store = make_store(tmp_path)
    no_number(store)
    broken_byte(store)
    told = check_store(store, is_fast=True)
    assert told.findings == ()
    assert facts(told)["checksums"] == {WHOLE: "not looked at"}
    box_turned(store)
    (finding,) = check_store(store, is_fast=True).findings
    assert finding.where == str(store / "boxes.npy")


def test_a_store_of_many_pieces_is_looked_at_whole(tmp_path, monkeypatch) -> None:
    names = [f"COCO_train2014_{n:012d}" for n in range(50)]
    store = make_store(tmp_path, names)
    for image in (0, 13, 49):
        change(store, "features.npy", (image, 0, 1), np.inf)
    change(store, "features.npy", (21, 0), 0)
    seal(store, "features.npy")
    expected = check_store(store).findings
    assert [each.severity for each in expected] == ["error", "warning"]
    assert f"3 images ({names[0]}, {names[13]}, {names[49]})" in expected[0].sentence
    for piece in (1, 400, 1000, 5000):
        monkeypatch.setattr("lxcompress.data.regions.verify.PIECE_BYTES", piece)
        told: list[tuple[int, int]] = []
        assert check_store(store, progress=lambda what, done, total: told.append((done, total))).findings == expected  # noqa: B023
        assert [done for done, _ in told] == sorted(done for done, _ in told)
        assert told[-1][0] <= told[-1][1] < told[-1][0] + 4 * 128 + 1  # the headers are no part of a checksum


def test_features_of_another_size_are_an_error_for_every_kind(sound) -> None:
    findings = check(sound, model=ModelShape("start", feature_size=2048)).findings
    said = [finding for finding in findings if "reads regions of 2048 features, but data.kind=" in finding.sentence]
    is_blind = getattr(sound, "features", FEATURES) is None
    assert [sentence.severity for sentence in said] == ([] if is_blind else ["error"])


# Data sets that know their scenes.


def test_bad_scenes_and_questions_of_clevr_are_counted_and_the_rest_is_told(tmp_path) -> None:
    asked, seen = of_clevr.questions_file(8), of_clevr.scenes_file(8)
    for place in (5, 6, 30):
        asked["questions"][place]["answer"] = "maybe"
    seen["scenes"][2]["objects"] = []
    seen["scenes"][1]["objects"][0]["color"] = "orange"
    seen["scenes"][4]["objects"][0]["color"] = "pink"
    data = of_clevr.settings(tmp_path, scenes=seen, questions=asked)
    found = check(data)
    said = {(Path(finding.where).name, finding.severity): finding.sentence for finding in found.findings}
    sentences = " ".join(finding.sentence for finding in found.findings)
    assert {finding.severity for finding in found.findings} == {"error"}
    assert set(said) == {("questions.json", "error"), ("scenes.json", "error")}
    assert "question 5 has the answer 'maybe'" in sentences
    assert "(the first of 3 such problems)" in sentences
    assert "scene of image_index 2 has no object" in sentences
    assert "object 0 of image_index 1 is not a CLEVR object (color 'orange'" in sentences
    assert "asks about image 2 that" in sentences
    assert facts(found)["questions"] == {"train": 51, "valid": 18}


def test_a_holdout_that_leaves_nothing_is_told_with_the_facts(tmp_path) -> None:
    found = check(of_clevr.settings(tmp_path, holdout=8))
    (finding,) = found.findings
    assert "too few to hold 8 out" in finding.sentence
    assert facts(found)["questions"] == {"train": 72}


def test_scenes_of_both_splits_are_a_warning_whatever_their_number(tmp_path) -> None:
    def shifted(first: int) -> dict[str, Any]:
        found = of_clevr.scenes_file(3, first=20)
        found["scenes"][1]["objects"] = of_clevr.scene(first)["objects"]
        return found

    def data(first: int) -> ClevrData:
        return of_clevr.settings(
            tmp_path,
            valid_scenes=of_clevr.write(tmp_path / "vs.json", shifted(first)),
            valid_questions=of_clevr.write(tmp_path / "vq.json", of_clevr.questions_file(3, first=20)),
        )

    (finding,) = check(data(5)).findings
    assert finding.severity == "warning"
    assert finding.sentence.startswith("1 of its 3 scenes are in")
    assert check(data(60)).findings == ()


def test_groups_of_both_splits_are_an_error(tmp_path) -> None:
    data = of_nlvr.settings(tmp_path, valid=of_nlvr.write(tmp_path / "v.json", of_nlvr.records(range(8, 14), (5, 6))))
    with pytest.raises(DataError):
        load_task(data)
    (finding,) = check(data).findings
    assert finding.sentence.startswith("2 groups (8, 9) are in")


def test_weak_questions_are_told_apart(tmp_path) -> None:
    data = of_nlvr.settings(tmp_path, holdout=0.5)
    told = facts(check(data))
    assert told["groups"] == {"train": 7, "valid": 5}
    assert told["weak questions"] == {"train": 14}
    assert told["weak questions dropped"] == {"train": 10}
    twice = of_nlvr.settings(
        tmp_path, weak=of_nlvr.write(tmp_path / "w.json", of_nlvr.records(range(10), label="weak_label"))
    )
    with pytest.raises(DataError):
        load_task(twice)
    (finding,) = check(twice).findings
    assert "examples" in finding.sentence
    assert "come twice" in finding.sentence


def test_answers_that_are_all_alike_are_a_warning(tmp_path) -> None:
    same = [record | {"label": "true"} for record in of_nlvr.records(range(10))]
    data = of_nlvr.settings(tmp_path, train=of_nlvr.write(tmp_path / "same.json", same), weak=None)
    assert {finding.severity for finding in check(data).findings} == {"warning"}
    assert "the answer 'true' is right for 100 %" in check(data).findings[0].sentence


# Real data.


@pytest.mark.slow
def test_real_vqa_is_sound_but_for_its_images(tmp_path) -> None:
    data = of_vqa.slice_data(answers=real("vocab", "vqa_trainval_ans2label.json"))
    found = check_data(data, read_vocabulary(real("vocab", "vocab.txt")))
    told = facts(found)
    assert told["questions"] == {"train": 48_061, "valid": 8_977}
    assert told["best possible score"]["valid"] == pytest.approx(0.9293, abs=1e-4)
    assert told["unknown tokens"] == {"train": 0, "valid": 0}
    assert sum(told[f"of type {kind}"]["valid"] for kind in ("yes/no", "number", "other")) == 8_977
    (finding,) = found.findings
    assert (finding.severity, finding.sentence[:33]) == (
        "warning",
        "3,930 of 8,260 images are in " + str(data.train[0])[:4],
    )


@pytest.mark.slow
def test_gqas_answers_are_doubtful_for_real_vqa() -> None:
    data = of_vqa.slice_data(answers=real("vocab", "gqa_trainval_ans2label.json"))
    doubts = [finding for finding in check_data(data).findings if finding.where == str(data.answers)]
    assert [doubt.severity for doubt in doubts] == ["warning"]
    assert "the best possible score is" in doubts[0].sentence


def test_real_features_are_sound(tmp_path) -> None:
    prepare_store([real_file()], tmp_path / "store")
    found = check_store(tmp_path / "store")
    assert found.findings == ()
    assert facts(found)["regions of an image, mean"] == {WHOLE: 36}
    questions = real("region_features", "vqa2_questions.json")
    answers = real("vocab", "vqa_trainval_ans2label.json")
    data = VqaData(kind="vqa", train=questions, valid=questions, answers=answers, features=tmp_path / "store")
    told = check_data(data, model=ModelShape("start", feature_size=2048))
    # The questions are about one image more than the features.
    assert facts(told)["images not in the store"] == {"train": 1, "valid": 1}
    assert [finding.sentence.partition(" that ")[0].partition(" (")[0] for finding in told.findings] == [
        "6 question ids",
        "asks about image COCO_train2014_000000131486",
    ]


@pytest.mark.slow
def test_real_clevr_nlvr_and_nlvr2_are_read_whole() -> None:
    words = read_vocabulary(real("vocab", "vocab.txt"))
    scenes, questions = (real("clevr") / name for name in of_clevr.SLICE)
    model = ModelShape("start", feature_size=FEATURES)
    found = check(ClevrData(kind="clevr", scenes=scenes, questions=questions), model=model)
    assert found.findings == ()
    assert sum(facts(found)["questions"].values()) == 39_524
    nlvr = NlvrData(kind="nlvr", train=real("nlvr", "train1000_decoded.json"), valid=real("nlvr", "dev.json"))
    found = check_data(nlvr, words, model=model)
    assert found.findings == ()
    assert facts(found)["score of giving only that"]["valid"] == pytest.approx(0.553, abs=5e-4)
    dev = real("nlvr2", "dev.json.gz")
    found = check_data(Nlvr2Data(kind="nlvr2", train=dev, valid=dev, tokens=41), words)
    assert [finding.sentence.partition(" (")[0] for finding in found.findings] == ["6,982 question ids"]
    assert all(facts(found)["images"][split] == 8_102 for split in ("train", "valid"))


def test_a_finding_is_kept_once() -> None:
    absent = Path("absent.json")
    found = check_data(VqaData(kind="vqa", train=(absent, absent), valid=absent))
    assert len(found.findings) == len(set(found.findings)) == 2
    assert all(isinstance(finding, Finding) and finding.where == "absent.json" for finding in found.findings)
