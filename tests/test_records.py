"""Records: every number has its bounds, every file name stays in its folder, and no run crashes a command."""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Iterator
from os import link
from pathlib import Path
from shutil import copy2
from typing import Any

import pytest
from typer.testing import CliRunner

from lxcompress.cli.main import app
from lxcompress.data.regions.store import StoreRecord
from lxcompress.errors import LxError, RunError
from lxcompress.records import (
    Artifact,
    BenchRecord,
    Dense,
    FileRecord,
    Floors,
    Machine,
    Provenance,
    Record,
    Result,
    dump_record,
    read_record,
)
from tests.report.synthetic import MACHINE, floors, gpu_usage, recipe, write_run, write_twins

SHA = "0" * 64
HOSTILE = ("true", '"1"', "-1e300", "1e300", "NaN", "Infinity", "-Infinity", "1" + "0" * 5000)
VALUES = (*HOSTILE, "-1", "-0.5", "0", "1e308", "5.0", "1e-320", "9007199254740993", "null", '"x"', "true", "[]", "{}")
CELL = "low-magnitude-weight-50-seed0"


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    """A run folder in which every record has all of its fields."""
    root = tmp_path_factory.mktemp("records") / "run"
    settings = recipe(criteria=("low-magnitude",), sparsities=(0.5,), seeds=(0, 1))
    made = write_run(root, settings, usage=gpu_usage)
    write_twins(made, CELL, threads=(1,))
    return root


def trees(run: Path) -> dict[type[Record], Any]:
    """A tree of each kind of record, in which no field is null or empty."""
    artifact = json.loads((run / "artifacts" / f"{CELL}-onnx-fp32" / "artifact.json").read_text("utf-8"))
    artifact |= {"source_sha256": SHA, "parameters": 5, "flops": 5, "lengths": {"7": 3}}
    bench = json.loads(next((run / "measurements").glob("*.json")).read_text("utf-8"))
    filled = {"rounds": [20, 21], "parameters": 5, "flops": 5, "read_bytes": 5}
    bench["measurements"][0] |= filled
    del artifact["seal"], bench["seal"]
    result = json.loads((run / "tickets" / CELL / "result.json").read_text("utf-8"))
    del result["seal"]
    score = result["retrained"]
    provenance = {
        "cell": CELL,
        "criterion": "low-magnitude",
        "granularity": "weight",
        "scope": "layer",
        "target": 0.5,
        "seed": 0,
        "sparsity": result["sparsity"],
        "start_file": "start.safetensors",
        **{f"{name}_sha256": SHA for name in ("start", "model", "mask", "surgery")},
        "data": {"kind": "scenes", "noise": 0.5},
        "accuracy": score,
    }
    store = {
        "images": 1,
        "objects": 1,
        "features": 1,
        "sources": [{"name": "a.tsv", "size_bytes": 1}],
        "files": {"features.npy": {"size_bytes": 1, "sha256": SHA}},
        "largest_feature": 1.0,
        "skipped": 0,
    }
    return {
        Artifact: artifact,
        BenchRecord: bench,
        Result: result | {"method": {"rate": 0.5}},
        Dense: json.loads((run / "seeds/0/dense/dense.json").read_text("utf-8")),
        Floors: json.loads(dump_record(floors(0.42))) | {"majority_per_question_type": score},
        Machine: json.loads(dump_record(MACHINE)),
        Provenance: provenance,
        StoreRecord: store,
    }


def numbers(tree: Any, path: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    """The paths of all numbers in a tree."""
    items = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    for key, value in items:
        if isinstance(value, int | float) and not isinstance(value, bool):
            yield (*path, key)
        else:
            yield from numbers(value, (*path, key))


def changed(tree: Any, path: tuple[str | int, ...], literal: str) -> str:
    """The tree as JSON with `literal` in place of the value at `path`."""
    copy = json.loads(json.dumps(tree))
    inner = copy
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = "HERE"
    return json.dumps(copy).replace('"HERE"', literal)


def test_every_record_of_a_run_reads_back(run: Path, tmp_path: Path) -> None:
    for kind, tree in trees(run).items():
        (tmp_path / "record.json").write_text(json.dumps(tree), "utf-8")
        record = read_record(tmp_path / "record.json", kind)
        assert kind.model_validate_json(dump_record(record)) == record


def test_no_number_of_a_record_is_without_bounds(run: Path, tmp_path: Path) -> None:
    file = tmp_path / "record.json"
    for kind, tree in trees(run).items():
        # One of many like values stands for all: samples, answer types.
        paths = {tuple(0 if isinstance(key, int) else key for key in path): path for path in numbers(tree)}
        assert paths
        for path in paths.values():
            is_free = path[0] in ("data", "method")  # settings, which their own reader bounds: they are finite
            for literal in ("NaN", "Infinity", "-Infinity") if is_free else HOSTILE:
                file.write_text(changed(tree, path, literal), "utf-8")
                with pytest.raises(RunError) as problem:
                    read_record(file, kind)
                said = str(problem.value)
                assert len(said) < 500, said
                assert "\n" not in said
                assert said.startswith(f"{file}: "), said
                assert str(path[0]) in said or literal[0] == "1", said


@pytest.mark.parametrize(
    ("kind", "path", "literal", "words"),
    [
        (Result, ("retrained", "accuracy"), "5.0", ("retrained.accuracy: expected 0 to 1, got 5.0",)),
        (Result, ("retrained", "accuracy"), "-0.1", ("expected 0 to 1, got -0.1",)),
        (Result, ("retrained", "questions"), "0", ("retrained.questions", "greater than or equal to 1", "got 0")),
        (Result, ("sparsity", "kept"), "1800001", ("sparsity", "kept is at most prunable")),
        (Result, ("sparsity", "achieved"), "0.99", ("sparsity", "achieved is the share")),
        (Result, ("cell",), '"../../x"', ("cell", "expected a relative path", '"../../x"')),
        (Artifact, ("size_bytes",), "-5", ("size_bytes", "got -5")),
        (Artifact, ("parity", "changed_answers"), "65", ("changed_answers are at most questions",)),
        (Artifact, ("files",), '{"../x": "' + SHA + '"}', ("files", "relative path")),
        (Artifact, ("files",), '{"a": "xyz"}', ("files.a", "xyz")),
        (BenchRecord, ("measurements", 0, "latency", "values", 0), "-0.004", ("latency.values.0", "got -0.004")),
        (BenchRecord, ("measurements", 0, "latency", "values"), "[]", ("latency.values", "at least 1 item")),
        (BenchRecord, ("measurements", 0, "rounds"), "[5]", ("rounds add up",)),
    ],
)
def test_a_value_out_of_bounds_is_named_with_its_bound(run, tmp_path, kind, path, literal, words) -> None:
    file = tmp_path / "record.json"
    file.write_text(changed(trees(run)[kind], path, literal), "utf-8")
    with pytest.raises(RunError) as problem:
        read_record(file, kind)
    for word in words:
        assert word in str(problem.value)


UNSAFE = ("../x", "a/../../x", "/etc/passwd", "C:\\x", "c:x", "a\\b", "", ".", "a//b", "a\0b", "..", "a/")


@pytest.mark.parametrize("name", UNSAFE)
def test_a_file_name_in_a_record_stays_in_its_folder(run: Path, tmp_path: Path, name: str) -> None:
    file = tmp_path / "record.json"
    for kind, value in ((Artifact, SHA), (StoreRecord, {"size_bytes": 1, "sha256": SHA})):
        file.write_text(json.dumps(trees(run)[kind] | {"files": {name: value}}), "utf-8")
        with pytest.raises(RunError):
            read_record(file, kind)
    for kind in (Artifact, Result, Provenance):
        file.write_text(json.dumps(trees(run)[kind] | {"cell": name}), "utf-8")
        with pytest.raises(RunError):
            read_record(file, kind)


def test_what_rounding_adds_to_a_mean_is_no_error() -> None:
    from lxcompress.records import Score

    assert Score(accuracy=1.0000000000000002, by_type={"a": -1e-17}, questions=3).accuracy == 1.0


def test_every_record_that_is_a_file_forbids_what_is_not_finite() -> None:
    def kinds(base: type[Record]) -> Iterator[type[Record]]:
        for kind in base.__subclasses__():
            yield kind
            yield from kinds(kind)

    assert {Result, BenchRecord, StoreRecord} <= set(kinds(FileRecord))
    assert all(kind.model_config["allow_inf_nan"] is False for kind in kinds(Record))


@pytest.mark.parametrize("seed", range(40))
def test_no_number_in_a_run_folder_makes_a_command_crash(run: Path, seed: int, tmp_path: Path) -> None:
    """One number of one record is another one: the command answers, or says in one sentence what is wrong."""
    chance, copy = random.Random(seed), tmp_path / "run"
    shutil.copytree(run, copy, copy_function=lambda old, new: (copy2 if old.endswith(".json") else link)(old, new))
    file = chance.choice(sorted(copy.rglob("*.json")))
    tree = json.loads(file.read_text("utf-8"))
    tree.pop("seal", None)  # as an earlier version wrote it: what was changed under a seal is refused at once
    file.write_text(changed(tree, chance.choice(list(numbers(tree))), chance.choice(VALUES)), "utf-8")
    limits = chance.choice(([], ["--max-size-mb", "2"], ["--max-latency-ms", "1", "--max-memory-mb", "5"], ["--all"]))
    command = chance.choice((["report"], ["report", "--markdown"], ["pick", *limits], ["status"], ["pick", "--json"]))
    found = CliRunner().invoke(app, [command[0], str(copy), *command[1:]])
    if found.exception is not None:
        assert isinstance(found.exception, LxError), (file, command, found.exception)
        assert len(str(found.exception)) < 500
