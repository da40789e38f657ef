"""Every kind of file that the project reads, as a small sound one with what reads it: what the mutator changes."""

from __future__ import annotations

import gzip
import json
import os
import shutil
import zipfile
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors import safe_open

from lxcompress.data import gqa_score, nlvr2_score, vqa_score
from lxcompress.data.check import check_data, check_store
from lxcompress.data.files import read_labels
from lxcompress.data.objects import ANSWERS
from lxcompress.data.predictions import format_predictions
from lxcompress.data.regions.prepare import prepare_store
from lxcompress.data.regions.store import open_store, part_of
from lxcompress.data.regions.write import JOURNAL
from lxcompress.data.tasks import load_task
from lxcompress.errors import LxError
from lxcompress.recipe import DATA_KINDS, dump_recipe, load_recipe
from lxcompress.records import Artifact, BenchRecord, Dense, Floors, Machine, Provenance, Result, read_record
from tests.data.regions.pictures import pictures, row, write_hdf5, write_npz, write_tsv
from tests.data.test_examples import write_table
from tests.mutate import Subject

COUNT = 12
"""Questions of a split."""


def write_json(path: Path, document: Any) -> Path:
    path.write_text(json.dumps(document), encoding="utf-8")
    return path


def write_lines(path: Path, records: list[Any]) -> Path:
    path.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")
    return path


def unseal(path: Path) -> Path:
    """Take the seal off a record, as an earlier version wrote it: else every change would end at the seal."""
    document = json.loads(path.read_text(encoding="utf-8"))
    document.pop("seal", None)
    return write_json(path, document)


# Data sets: the changed file is the training split, the other one stays sound.


def read_task(kind: str, folder: Path, **files: str) -> None:
    """Load the task, write its predictions, and check the data too, which must find what loading refuses."""
    settings = DATA_KINDS[kind].model_validate(
        {"kind": kind, **{name: folder / value if isinstance(value, str) else value for name, value in files.items()}}
    )
    check = check_data(settings)
    assert all("\n" not in finding.sentence for finding in check.findings)
    task = load_task(settings)
    if kind in ("vqa", "gqa", "nlvr", "nlvr2"):
        given = [(number, task.labels[0]) for number in task.train.ids]
        format_predictions(kind, given).encode("utf-8")


def vqa_questions(folder: Path, start: int) -> dict[str, Any]:
    return {
        "data_type": "mscoco",
        "data_subtype": "train2014",
        "questions": [
            {"question_id": start + n, "image_id": start + n, "question": f"what is {n} of it?"} for n in range(COUNT)
        ],
    }


def vqa_annotations(folder: Path, start: int) -> dict[str, Any]:
    def annotation(number: int) -> dict[str, Any]:
        answers = [{"answer": ("yes", "no")[(number + k) % 2], "answer_id": k + 1} for k in range(10)]
        return {
            "question_id": start + number,
            "image_id": start + number,
            "answers": answers,
            "answer_type": "yes/no",
            "question_type": "what is",
            "multiple_choice_answer": "yes",
        }

    return {"annotations": [annotation(number) for number in range(COUNT)]}


def write_vqa(folder: Path) -> None:
    for name, start in (("train", 1000), ("valid", 2000)):
        write_json(folder / f"{name}_q.json", vqa_questions(folder, start))
        write_json(folder / f"{name}_a.json", vqa_annotations(folder, start))
    write_json(folder / "labels.json", {"yes": 0, "no": 1, "2": 2})


def of_vqa(name: str, folder: Path) -> Subject:
    write_vqa(folder)
    files = {
        "train": "train_q.json",
        "valid": "valid_q.json",
        "train_annotations": "train_a.json",
        "valid_annotations": "valid_a.json",
        "answers": "labels.json",
    }
    return Subject(Path(name), "json", lambda folder: read_task("vqa", folder, **files))


def lxmert_records(start: int, kind: str) -> list[dict[str, Any]]:
    return [
        {
            "question_id": f"{start + n}" if kind == "gqa" else start + n,
            "img_id": f"COCO_val2014_{start + n:012d}",
            "sent": f"is {n} red?",
            "label": {"yes": 1.0, "no": 0.3},
            "answer_type": "yes/no",
            "question_type": "is",
        }
        for n in range(COUNT)
    ]


def of_examples(ending: str, folder: Path) -> Subject:
    """A table of examples; the mutator knows the parts of CSV and JSON lines, and takes Parquet as bytes."""
    rows = [{"says": f"is {n} red?", "what": ("yes", "no")[n % 2]} for n in range(COUNT)]
    write_table(folder / f"train.{ending}", rows)
    write_table(folder / f"valid.{ending}", [{**row, "says": "is it?"} for row in rows])
    how = {"csv": "columns", "jsonl": "lines", "parquet": "bytes"}[ending]
    files = {name: f"{name}.{ending}" for name in ("train", "valid")}
    columns = {"text": "says", "label": "what"}
    return Subject(Path(f"train.{ending}"), how, lambda folder: read_task("examples", folder, **files, columns=columns))


def lxmert_pairs(start: int) -> list[dict[str, Any]]:
    """Records of LXMERT's JSON for NLVR2: two images a sentence."""
    return [
        {
            "identifier": f"dev-{start + n}-0-0",
            "uid": f"nlvr2_dev_{n}",
            "img0": f"dev-{start + n}-0-img0",
            "img1": f"dev-{start + n}-0-img1",
            "label": n % 2,
            "sent": "two dogs play",
        }
        for n in range(COUNT)
    ]


def of_lxmert(kind: str, folder: Path) -> Subject:
    for name, start in (("train", 1000), ("valid", 2000)):
        records = lxmert_pairs(start) if kind == "nlvr2" else lxmert_records(start, kind)
        write_json(folder / f"{name}.json", records)
    settings = {"least_answers": 1} if kind == "vqa" else {}
    return Subject(
        Path("train.json"),
        "json",
        lambda folder: read_task(kind, folder, train="train.json", valid="valid.json", **settings),
    )


def gqa_document(start: int) -> dict[str, Any]:
    return {
        f"{start + n}": {
            "imageId": f"n{start + n}",
            "question": f"is {n} red?",
            "answer": ("yes", "no")[n % 2],
            "isBalanced": True,
            "types": {"structural": "verify", "semantic": "attr"},
            "semantic": [{"operation": "select", "argument": "x", "dependencies": []}],
        }
        for n in range(COUNT)
    }


def of_gqa(folder: Path) -> Subject:
    for name, start in (("train", 1000), ("valid", 2000)):
        write_json(folder / f"{name}.json", gqa_document(start))
    return Subject(
        Path("train.json"), "json", lambda folder: read_task("gqa", folder, train="train.json", valid="valid.json")
    )


def nlvr_records(start: int) -> list[dict[str, Any]]:
    thing = {"color": "Yellow", "type": "circle", "size": 20, "x_loc": 10, "y_loc": 30}
    return [
        {
            "identifier": f"{start + n // 2}-{n % 2}",
            "sentence": "there is a yellow circle",
            "label": ("true", "false")[n % 2],
            "structured_rep": [[thing], [dict(thing, color="#0099ff")], []],
        }
        for n in range(COUNT)
    ]


def nlvr2_records(start: int) -> list[dict[str, Any]]:
    return [
        {"identifier": f"dev-{start + n}-0-0", "sentence": "two dogs play", "label": ("True", "False")[n % 2]}
        for n in range(COUNT)
    ]


def of_sentences(kind: str, folder: Path) -> Subject:
    for name, start in (("train", 1000), ("valid", 2000)):
        write_lines(folder / f"{name}.json", (nlvr_records if kind == "nlvr" else nlvr2_records)(start))
    return Subject(
        Path("train.json"), "lines", lambda folder: read_task(kind, folder, train="train.json", valid="valid.json")
    )


def of_clevr(name: str, folder: Path) -> Subject:
    thing = {
        "color": "red",
        "shape": "cube",
        "size": "small",
        "material": "metal",
        "3d_coords": [0.5, -1.0, 0.35],
        "pixel_coords": [240, 160, 10.5],
    }
    scenes = [{"image_index": n, "objects": [dict(thing, shape="sphere"), thing]} for n in range(8)]
    given = (True, 2, "red")
    questions = [{"image_index": n % 8, "question": f"is {n} red?", "answer": given[n % 3]} for n in range(24)]
    write_json(folder / "scenes.json", {"scenes": scenes})
    write_json(folder / "questions.json", {"questions": questions})
    files = {"scenes": "scenes.json", "questions": "questions.json", "holdout": 3}
    return Subject(Path(name), "json", lambda folder: read_task("clevr", folder, **files))


def of_labels(document: Any, folder: Path) -> Subject:
    write_json(folder / "labels.json", document)
    return Subject(Path("labels.json"), "json", lambda folder: read_labels(folder / "labels.json"))


def of_pretrained_answers(folder: Path) -> Subject:
    from lxcompress.models.answers import read_answers

    write_json(folder / "all_ans.json", [{"ans": answer, "dsets": ["vqa", "gqa"]} for answer in ANSWERS])
    return Subject(Path("all_ans.json"), "json", lambda folder: read_answers(folder / "all_ans.json"))


def of_predictions(kind: str, folder: Path) -> Subject:
    if kind == "vqa":
        document = [{"question_id": 1000 + n, "answer": "yes"} for n in range(COUNT)]
        read: Callable[[Path], Any] = vqa_score.read_predictions
    else:
        document = [{"questionId": str(1000 + n), "prediction": "yes"} for n in range(COUNT)]
        read = gqa_score.read_gqa_predictions
    write_json(folder / "p.json", document)
    return Subject(Path("p.json"), "json", lambda folder: read(folder / "p.json"))


def of_nlvr_predictions(folder: Path) -> Subject:
    (folder / "p.csv").write_text("".join(f"dev-{n}-0-0,True\n" for n in range(COUNT)))

    def read(folder: Path) -> None:
        for prediction in nlvr2_score.read_nlvr_predictions(folder / "p.csv"):
            nlvr2_score.nlvr2_sentence(prediction)

    return Subject(Path("p.csv"), "columns", read)


def of_scored(name: str, folder: Path) -> Subject:
    write_vqa(folder)
    said = {1000 + n: "yes" for n in range(COUNT)}

    def read(folder: Path) -> None:
        questions = vqa_score.read_questions(folder / "train_q.json")
        annotations = vqa_score.read_annotations(folder / "train_a.json")
        vqa_score.check_known(annotations, questions.ids, where="a", among="q")
        vqa_score.score_predictions(said, annotations)
        vqa_score.check_choices(said, questions, where="p")

    return Subject(Path(name), "json", read)


def of_gqa_scored(folder: Path) -> Subject:
    write_json(folder / "q.json", gqa_document(1000))
    said = {f"{1000 + n}": "yes" for n in range(COUNT)}
    read = gqa_score.read_gqa_questions
    return Subject(Path("q.json"), "json", lambda folder: gqa_score.score_gqa(said, read(folder / "q.json")))


# Sources of region features, and stores.


def convert(folder: Path, source: str) -> None:
    prepare_store([folder / source], folder / "store", objects=5, skip_bad=True)
    assert not check_store(folder / "store").errors


def of_tsv(name: str, folder: Path) -> Subject:
    path = write_tsv(folder / name, list(map(row, pictures(4, features=6))))
    if name == "lzma.zip":
        text = write_tsv(folder / "a.tsv", list(map(row, pictures(4, features=6)))).read_bytes()
        with zipfile.ZipFile(path, "w", zipfile.ZIP_LZMA) as packed:
            packed.writestr("a.tsv", text)
        (folder / "a.tsv").unlink()
    form = "columns" if name.endswith(".tsv") else "bytes"
    return Subject(Path(name), form, lambda folder: convert(folder, name))


def of_npz(kind: str, folder: Path) -> Subject:
    made = write_npz(folder / "npz", pictures(2, features=6), kind=kind)
    first = sorted(made.iterdir())[0]
    with zipfile.ZipFile(first) as packed:
        members = {name: packed.read(name) for name in packed.namelist()}
    with zipfile.ZipFile(first, "w", zipfile.ZIP_STORED) as packed:  # so that changes reach the arrays
        for name, data in members.items():
            packed.writestr(name, data)
    return Subject(first.relative_to(folder), "bytes", lambda folder: convert(folder, "npz"))


def of_npy_header(folder: Path) -> Subject:
    """An array in a zip whose checksum is right whatever it holds."""
    made = write_npz(folder / "npz", pictures(1, features=6), kind="gqa")
    first = sorted(made.iterdir())[0]
    with zipfile.ZipFile(first) as packed:
        members = {name: packed.read(name) for name in packed.namelist()}
    (folder / "x.npy").write_bytes(members["x.npy"])

    def read(folder: Path) -> None:
        with zipfile.ZipFile(folder / first.relative_to(folder), "w") as packed:
            for name, data in members.items():
                packed.writestr(name, (folder / "x.npy").read_bytes() if name == "x.npy" else data)
        convert(folder, "npz")

    return Subject(Path("x.npy"), "bytes", read)


def of_hdf5(kind: str, folder: Path) -> Subject:
    name = "gqa_objects_3.h5" if kind == "gqa" else "a.h5"
    write_hdf5(folder / name, pictures(3, regions=(3, 3), features=6), kind=kind)
    return Subject(Path(name), "bytes", lambda folder: convert(folder, name))


def of_beside(kind: str, beside: str, form: str, folder: Path) -> Subject:
    subject = of_hdf5(kind, folder)
    return Subject(Path(beside), form, subject.read)


def of_store(name: str, form: str, folder: Path) -> Subject:
    path = write_tsv(folder / "a.tsv", list(map(row, pictures(4, features=6))))
    prepare_store([path], folder / "store", objects=5)
    path.unlink()
    unseal(folder / "store" / "store.json")

    def read(folder: Path) -> None:
        check = check_store(folder / "store")
        store = open_store(folder / "store")
        assert np.isfinite(store.boxes).all() or check.errors

    return Subject(Path("store") / name, form, read)


def of_journal(folder: Path) -> Subject:
    """The journal of a conversion that a bad row ended; the row was mended since."""
    lines = [row(picture) for picture in pictures(4, features=6)]
    sound = write_tsv(folder / "a.tsv", lines).read_bytes()
    (folder / "a.tsv").write_bytes(sound[:-20])
    with pytest.raises(LxError):
        prepare_store([folder / "a.tsv"], folder / "store", objects=5)
    part_of(folder / "store").rename(folder / "begun")
    unseal(folder / "begun" / JOURNAL)
    (folder / "a.tsv").write_bytes(sound)

    def read(folder: Path) -> None:
        part = part_of(folder / "store")
        for left in (part, folder / "store"):
            shutil.rmtree(left, ignore_errors=True)
        shutil.copytree(folder / "begun", part)
        convert(folder, "a.tsv")

    return Subject(Path("begun") / JOURNAL, "json", read)


def of_gzip_json(folder: Path) -> Subject:
    (folder / "labels.json.gz").write_bytes(gzip.compress(json.dumps(list(ANSWERS)).encode()))
    return Subject(Path("labels.json.gz"), "bytes", lambda folder: read_labels(folder / "labels.json.gz"))


def of_zip_json(method: int, folder: Path) -> Subject:
    with zipfile.ZipFile(folder / "labels.zip", "w", method) as packed:
        packed.writestr("a/labels.json", json.dumps(list(ANSWERS)))
    return Subject(Path("labels.zip"), "bytes", lambda folder: read_labels(folder / "labels.zip"))


# Recipes, device profiles and records.


def of_recipe(name: str, folder: Path) -> Subject:
    (folder / "r.yaml").write_bytes((Path(__file__).parent.parent / "recipes" / name).read_bytes())
    return Subject(Path("r.yaml"), "yaml", lambda folder: dump_recipe(load_recipe(folder / "r.yaml")))


def of_overrides(folder: Path) -> Subject:
    """What is given with --set, as bytes of a command line: one a line."""
    (folder / "r.yaml").write_bytes((Path(__file__).parent.parent / "recipes" / "thesis.yaml").read_bytes())
    given = "train.epochs=2\ndata.train=a.json\nprune.methods=[{criterion: taylor}]\nprune.sparsities=[0.5,0.7]\n"
    (folder / "set.txt").write_text(given)

    def read(folder: Path) -> None:
        overrides = os.fsdecode((folder / "set.txt").read_bytes()).split("\n")[:-1]
        dump_recipe(load_recipe(folder / "r.yaml", overrides)).encode("utf-8")

    return Subject(Path("set.txt"), "columns", read)


def of_profile(folder: Path) -> Subject:
    from lxcompress.measure.device.profile import read_profile

    source = Path(__file__).parent.parent / "docs" / "devices" / "executor-runner.yaml"
    (folder / "p.yaml").write_bytes(source.read_bytes())
    return Subject(Path("p.yaml"), "yaml", lambda folder: read_profile(folder / "p.yaml"))


def of_record(name: str, folder: Path) -> Subject:
    from lxcompress.analysis.summary import summarise
    from lxcompress.rundir import read_run
    from tests.report import synthetic

    run = synthetic.write_run(folder, synthetic.recipe())
    kinds: dict[str, Any] = {"dense": Dense, "result": Result, "floors": Floors, "machine": Machine}
    paths = {
        "dense": next(folder.rglob("dense.json")),
        "result": next(folder.rglob("result.json")),
        "floors": run.floors,
        "machine": run.machine,
    }
    path = unseal(paths[name])

    def read(folder: Path) -> None:
        read_record(folder / path.relative_to(folder), kinds[name])
        summarise(read_run(folder))

    return Subject(path.relative_to(folder), "json", read)


def of_exported(name: str, folder: Path) -> Subject:
    """An artifact's record, or a bench's."""
    from tests.report import synthetic

    run = synthetic.write_run(folder, synthetic.recipe())
    cell = next(folder.rglob("result.json")).parent.name
    synthetic.write_bench(run, "b.json", [synthetic.write_artifact(run, f"{cell}-onnx", cell=cell)])
    path = next(folder.rglob("artifact.json")) if name == "artifact" else next((folder / "measurements").glob("*.json"))
    unseal(path)
    kind: Any = Artifact if name == "artifact" else BenchRecord

    def read(folder: Path) -> None:
        from lxcompress.analysis.choice_json import choice_json
        from lxcompress.analysis.pick import pick_ticket
        from lxcompress.analysis.rule import default_rule
        from lxcompress.analysis.summary import summarise
        from lxcompress.rundir import read_run

        read_record(folder / path.relative_to(folder), kind)
        summary = summarise(read_run(folder))
        json.dumps(choice_json(pick_ticket(summary, default_rule(summary))))

    return Subject(path.relative_to(folder), "json", read)


# Models, tickets and what is made of them.

BESIDE: Mapping[str, Any] = {
    "special_tokens_map.json": {"pad_token": "[PAD]", "unk_token": {"content": "[UNK]", "lstrip": False}},
    "added_tokens.json": {"[PAD]": 0},
    "preprocessor_config.json": {"image_processor_type": "ViltImageProcessor", "size": {"shortest_edge": 384}},
}
"""Small files of a model folder that are read if they are there."""


def of_model(name: str, form: str, folder: Path) -> Subject:
    from lxcompress.models.checkpoints import load_model
    from lxcompress.models.vocabulary import load_vocabulary, save_vocabulary
    from tests.export.small import WORDS, save_small

    save_small(folder / "m")
    save_vocabulary(folder / "m", {"vocab.txt": "".join(f"{word}\n" for word in WORDS)})
    if name in BESIDE:
        write_json(folder / "m" / name, BESIDE[name])

    def read(folder: Path) -> None:
        load_model(folder / "m")
        load_vocabulary(str(folder / "m"))

    return Subject(Path("m") / name, form, read)


def of_tokenizer(name: str, folder: Path) -> Subject:
    """A vocabulary as transformers 5 saves it."""
    from transformers import BertTokenizer

    from lxcompress.data.tokens import read_vocabulary, tokenize
    from tests.export.small import WORDS

    (folder / "vocab.txt").write_text("".join(f"{word}\n" for word in WORDS))
    BertTokenizer(vocab=str(folder / "vocab.txt")).save_pretrained(folder)
    (folder / "vocab.txt").unlink()
    return Subject(Path(name), "json", lambda folder: tokenize(["word1 wörd2 \u2028 is"], read_vocabulary(folder), 20))


def of_pickled(name: str, folder: Path) -> Subject:
    """A model folder whose weights transformers wrote by pickle, in a file or in shards."""
    import torch
    from safetensors.torch import load_file

    from lxcompress.models.checkpoints import load_model
    from tests.export.small import save_small

    save_small(folder / "m")
    weights = load_file(folder / "m" / "model.safetensors")
    (folder / "m" / "model.safetensors").unlink()
    if name == "pytorch_model.bin":
        torch.save(weights, folder / "m" / name)
        return Subject(Path("m") / name, "bytes", lambda folder: load_model(folder / "m") and None)
    torch.save(weights, folder / "m" / "all.bin")
    write_json(folder / "m" / name, {"weight_map": dict.fromkeys(weights, "all.bin")})
    return Subject(Path("m") / name, "json", lambda folder: load_model(folder / "m") and None)


def of_shards(folder: Path) -> Subject:
    from lxcompress.models.checkpoints import load_model
    from tests.export.small import save_small

    save_small(folder / "m")
    with safe_open(folder / "m" / "model.safetensors", framework="np") as file:
        weight_map = dict.fromkeys(file.keys(), "all.safetensors")
    (folder / "m" / "model.safetensors").rename(folder / "m" / "all.safetensors")
    write_json(folder / "m" / "model.safetensors.index.json", {"weight_map": weight_map})
    return Subject(Path("m") / "model.safetensors.index.json", "json", lambda folder: load_model(folder / "m") and None)


def of_pth(folder: Path) -> Subject:
    import torch

    from lxcompress.models.original import read_original
    from tests.models.original import TINY, draw, pretrained_shapes

    torch.save(draw(pretrained_shapes(TINY)), folder / "m.pth")
    return Subject(Path("m.pth"), "bytes", lambda folder: read_original(folder / "m.pth"))


def of_ticket(name: str, form: str, granularity: str, folder: Path) -> Subject:
    from lxcompress.tickets import load_mask, load_ticket, mask_of
    from tests.export.small import save_ticket

    save_ticket(folder, granularity=granularity)
    if name == "ticket.json":
        unseal(folder / "ticket" / name)

    def read(folder: Path) -> None:
        if name == "mask.safetensors":
            load_mask(folder / "ticket" / name)  # behind a checksum in a ticket: here by itself
        if name == "ticket.json":
            read_record(folder / "ticket" / name, Provenance)
        mask_of(load_ticket(folder / "ticket"))

    return Subject(Path("ticket") / name, form, read)


def of_surgery(folder: Path) -> Subject:
    """A surgery beside its ticket, in which it is behind a checksum."""
    from lxcompress.models.checkpoints import load_model
    from lxcompress.pruning.surgery import Surgery, recount
    from tests.export.small import save_ticket

    ticket = save_ticket(folder, granularity="neuron+head")
    model = load_model(ticket)
    (folder / "surgery.json").write_bytes((ticket / "surgery.json").read_bytes())
    unseal(folder / "surgery.json")
    return Subject(
        Path("surgery.json"), "json", lambda folder: recount(model, read_record(folder / "surgery.json", Surgery))
    )


def of_bitmask(folder: Path) -> Subject:
    from lxcompress.bitmask import read_bitmask, write_bitmask

    source = np.random.default_rng(0)
    weights = {f"w{n}": source.normal(size=(8, 8)).astype(np.float32) for n in range(3)}
    masks = {name: weight > 0 for name, weight in weights.items()}
    kept = {name: np.where(masks[name], weight, 0).astype(np.float32) for name, weight in weights.items()}
    write_bitmask(folder / "b.safetensors", kept, masks, precision="int8")
    return Subject(Path("b.safetensors"), "safetensors", lambda folder: read_bitmask(folder / "b.safetensors"))


def of_engine(folder: Path) -> Subject:
    from lxcompress.engine.library import ModelFile

    sample = Path(__file__).parent / "engine" / "fuzz" / "seeds"
    (folder / "m.lxe").write_bytes(min(sample.iterdir(), key=lambda path: path.stat().st_size).read_bytes())

    def read(folder: Path) -> None:
        model = ModelFile(folder / "m.lxe")
        model.verify()
        model.close()

    return Subject(Path("m.lxe"), "bytes", read)


KINDS: Mapping[str, Callable[[Path], Subject]] = {
    "vqa questions": partial(of_vqa, "train_q.json"),
    "vqa annotations": partial(of_vqa, "train_a.json"),
    "vqa answers": partial(of_vqa, "labels.json"),
    "vqa of LXMERT": partial(of_lxmert, "vqa"),
    "gqa of LXMERT": partial(of_lxmert, "gqa"),
    "nlvr2 of LXMERT": partial(of_lxmert, "nlvr2"),
    "gqa": of_gqa,
    "nlvr": partial(of_sentences, "nlvr"),
    "nlvr2": partial(of_sentences, "nlvr2"),
    "clevr scenes": partial(of_clevr, "scenes.json"),
    "clevr questions": partial(of_clevr, "questions.json"),
    "examples as csv": partial(of_examples, "csv"),
    "examples as json lines": partial(of_examples, "jsonl"),
    "examples as parquet": partial(of_examples, "parquet"),
    "labels by answer": partial(of_labels, {"yes": 0, "no": 1, "2": 2}),
    "labels as a list": partial(of_labels, list(ANSWERS)),
    "pre-trained answers": of_pretrained_answers,
    "predictions of vqa": partial(of_predictions, "vqa"),
    "predictions of gqa": partial(of_predictions, "gqa"),
    "predictions of nlvr": of_nlvr_predictions,
    "vqa questions, scored": partial(of_scored, "train_q.json"),
    "vqa annotations, scored": partial(of_scored, "train_a.json"),
    "gqa questions, scored": of_gqa_scored,
    "gzip": of_gzip_json,
    "zip": partial(of_zip_json, zipfile.ZIP_DEFLATED),
    "zip by bzip2": partial(of_zip_json, zipfile.ZIP_BZIP2),
    "zip by LZMA": partial(of_zip_json, zipfile.ZIP_LZMA),
    "tsv": partial(of_tsv, "a.tsv"),
    "tsv by gzip": partial(of_tsv, "a.tsv.gz"),
    "tsv in a zip": partial(of_tsv, "a.zip"),
    "tsv in a zip by LZMA": partial(of_tsv, "lzma.zip"),
    "npz": partial(of_npz, "mcan"),
    "npz of UNITER": partial(of_npz, "uniter"),
    "npy in npz": of_npy_header,
    "hdf5 in groups": partial(of_hdf5, "groups"),
    "hdf5 bottom-up": partial(of_hdf5, "bottom-up"),
    "hdf5 ragged": partial(of_hdf5, "ragged"),
    "hdf5 of ViLBERT": partial(of_hdf5, "vilbert"),
    "hdf5 counting": partial(of_hdf5, "counting"),
    "hdf5 of gqa": partial(of_hdf5, "gqa"),
    "hdf5 ids": partial(of_beside, "bottom-up", "a_imgid2idx.json", "json"),
    "hdf5 ids as text": partial(of_beside, "ragged", "a_ids.txt", "columns"),
    "gqa objects info": partial(of_beside, "gqa", "gqa_objects_info.json", "json"),
    "store.json": partial(of_store, "store.json", "json"),
    "store features": partial(of_store, "features.npy", "bytes"),
    "store boxes": partial(of_store, "boxes.npy", "bytes"),
    "store objects": partial(of_store, "objects.npy", "bytes"),
    "store ids": partial(of_store, "ids.txt", "columns"),
    "store journal": of_journal,
    "overrides": of_overrides,
    "recipe": partial(of_recipe, "methods.yaml"),
    "recipe of data": partial(of_recipe, "thesis.yaml"),
    "device profile": of_profile,
    "dense.json": partial(of_record, "dense"),
    "result.json": partial(of_record, "result"),
    "floors.json": partial(of_record, "floors"),
    "machine.json": partial(of_record, "machine"),
    "artifact.json": partial(of_exported, "artifact"),
    "measurements": partial(of_exported, "bench"),
    "config.json": partial(of_model, "config.json", "json"),
    "model.safetensors": partial(of_model, "model.safetensors", "safetensors"),
    "vocab.txt": partial(of_model, "vocab.txt", "columns"),
    "tokenizer.json": partial(of_tokenizer, "tokenizer.json"),
    "tokenizer_config.json": partial(of_tokenizer, "tokenizer_config.json"),
    "special_tokens_map.json": partial(of_model, "special_tokens_map.json", "json"),
    "added_tokens.json": partial(of_model, "added_tokens.json", "json"),
    "preprocessor_config.json": partial(of_model, "preprocessor_config.json", "json"),
    "index of shards": of_shards,
    "pickled weights": partial(of_pickled, "pytorch_model.bin"),
    "index of pickled shards": partial(of_pickled, "pytorch_model.bin.index.json"),
    "pth": of_pth,
    "ticket.json": partial(of_ticket, "ticket.json", "json", "weight"),
    "mask": partial(of_ticket, "mask.safetensors", "safetensors", "weight"),
    "surgery": of_surgery,
    "bitmask": of_bitmask,
    "engine file": of_engine,
}
"""kind -> what writes a sound one into a folder"""
