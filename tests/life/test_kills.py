"""Kills: after a SIGKILL at any moment the same command ends as if nothing had happened, and nothing is left over.

`python -m pytest -m slow -s tests/life/test_kills.py` prints the counts; KILLS is the number of kills of all commands.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from lxcompress.records import BenchRecord, read_record
from tests.data.regions.pictures import pictures, row, write_tsv

KILLS = int(os.environ.get("KILLS", "100"))
SEED = 13
COMMAND = [sys.executable, "-m", "lxcompress"]
# As the command, but with pieces so small that many are written, each of them kept.
SLOW_PREPARE = [
    sys.executable,
    "-c",
    "from lxcompress.data.regions import write; write.PIECE_BYTES, write.CHECKPOINT_S = 2000, 0.01\n"
    "from lxcompress.__main__ import run; run()",
]


@dataclass(frozen=True)
class Command:
    """A command to kill: its words, with {out} for its output, and what must be equal in its output."""

    words: str
    essence: Callable[[Path], dict[str, object]]
    start: list[str]
    share: float
    """of all kills"""


def run(
    command: Command,
    out: Path,
    world: dict[str, Path],
    kill_after_s: float | None = None,
    *,
    after_names: frozenset[str] | None = None,
) -> float:
    """Run the command to its end, or kill it so long after its start; return the seconds it took.

    With `after_names` that time begins when something other than them is in `out`: when the command writes.
    """
    words = [word.format(out=out, **world) for word in command.words.split()]
    started = time.monotonic()
    with subprocess.Popen(
        [*command.start, *words],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    ) as process:
        while after_names is not None and process.poll() is None and set(os.listdir(out)) <= after_names:
            time.sleep(0.005)
        try:
            said = process.communicate(timeout=kill_after_s)[1]
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
            return time.monotonic() - started
    # A prune that was finished when it was killed finds its ticket there.
    assert process.returncode == 0 or "exists and is not an empty folder" in said, f"{words}: {said}"
    return time.monotonic() - started


def names(folder: Path) -> list[str]:
    """Return the names of everything below `folder`, without the lock files that a study leaves on purpose."""
    return sorted(
        path.relative_to(folder).as_posix()
        for path in folder.rglob("*")
        if path.name != ".lock" and ".claims" not in path.parts
    )


def sums(folder: Path, *patterns: str) -> dict[str, object]:
    """Return the names of all files, and the checksums of those that match."""
    found = {path for pattern in patterns for path in folder.rglob(pattern) if path.is_file()}
    return {
        "names": names(folder),
        **{path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in found},
    }


def study_essence(out: Path) -> dict[str, object]:
    scores = {}
    for path in [*out.rglob("result.json"), *out.rglob("dense.json")]:
        record = json.loads(path.read_text("utf-8"))
        scores[path.relative_to(out).as_posix()] = record.get("retrained") or record.get("trained")
    return {**sums(out, "*.safetensors", "vocab.txt", "config.json", "recipe.yaml"), "scores": scores}


def export_essence(out: Path) -> dict[str, object]:
    return sums(out, "*")


def bench_essence(out: Path) -> dict[str, object]:
    found = read_record(out / "bench.json", BenchRecord)
    runs = {each.artifact: (len(each.latency.values), each.task.threads) for each in found.measurements}
    return {
        "names": names(out),
        "runs": runs,
        "cut": any("cut" in each for m in found.measurements for each in m.doubts),
    }


COMMANDS = {
    "study": Command("study {recipe} --out {out}/run", study_essence, COMMAND, 0.2),
    "prune": Command("prune {model} --sparsity 0.5 --out {out}/pruned", lambda out: sums(out, "*"), COMMAND, 0.2),
    "export": Command("export {model} --onnx --out {out}/exported", export_essence, COMMAND, 0.2),
    "bench": Command("bench {artifact} --runs 60 --out {out}/bench.json", bench_essence, COMMAND, 0.15),
    "prepare": Command(
        "data prepare {regions} --objects 6 --out {out}/store", lambda out: sums(out, "*"), SLOW_PREPARE, 0.25
    ),
}


@pytest.fixture(scope="module")
def world(toy_start, toy_recipe_file, tmp_path_factory) -> dict[str, Path]:
    """Return the files that the commands read."""
    folder = tmp_path_factory.mktemp("world")
    tree = yaml.safe_load(toy_recipe_file.read_text("utf-8"))
    tree |= {"seeds": [0], "prune": {"criteria": ["low-magnitude"], "sparsities": [0.5]}}
    recipe = folder / "recipe.yaml"
    recipe.write_text(yaml.safe_dump(tree), encoding="utf-8")
    subprocess.run([*COMMAND, "study", str(recipe), "--out", str(folder / "run")], check=True, capture_output=True)
    model = shutil.copytree(folder / "run/seeds/0/dense", folder / "model")
    export = [*COMMAND, "export", str(model), "--onnx", "--out", str(folder / "artifact")]
    subprocess.run(export, check=True, capture_output=True)
    regions = write_tsv(folder / "regions.tsv", list(map(row, pictures(4000))))
    return {"recipe": recipe, "model": model, "artifact": folder / "artifact", "regions": regions}


@pytest.mark.slow
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("name", COMMANDS)
def test_the_same_command_after_a_kill_ends_as_if_there_was_none(name, world, tmp_path) -> None:
    command, draw = COMMANDS[name], random.Random(f"{SEED} {name}")
    (tmp_path / "whole").mkdir()
    whole_s = run(command, tmp_path / "whole", world)
    wanted = command.essence(tmp_path / "whole")
    kills, met, mid_write = max(1, round(KILLS * command.share)), 0, 0
    out = tmp_path / "out"
    for number in range(kills):
        shutil.rmtree(out, ignore_errors=True)
        out.mkdir()
        if number % 2:  # as it writes, of which most commands take a small part of their time
            run(command, out, world, whole_s * 0.4 * draw.random() ** 3, after_names=frozenset())
        else:
            run(command, out, world, whole_s * (0.2 + 0.8 * draw.random()))
        is_partial = bool(names(out)) and names(out) != wanted["names"]
        met += is_partial or not names(out)
        mid_write += is_partial
        run(command, out, world)
        found = command.essence(out)
        assert _plain(found, out) == _plain(wanted, tmp_path / "whole"), f"{name}: {names(out)}"
        told = f"{met} met it at work, {mid_write} of them mid-write, {number + 1} ended identical"
        print(f"{name}: {number + 1} of {kills} kills, {told}", flush=True)


def _plain(found: dict[str, object], folder: Path) -> dict[str, object]:
    """Return `found` without the checksums of files that have times or the folder's name; their values are compared."""
    kept = dict(found)
    for name in list(kept):
        if name.endswith("artifact.json"):
            record = json.loads((folder / name).read_text("utf-8"))
            kept[name] = {field: record.get(field) for field in ("files", "accuracy", "format", "prunable_zeros")}
        if name.endswith("store.json"):
            record = json.loads((folder / name).read_text("utf-8"))
            kept[name] = {field: record.get(field) for field in ("files", "images", "skipped")}
    return kept
