"""Laws of interrupts: at any moment a command ends with its exit code and one sentence, and leaves nothing behind."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from lxcompress.writing import PREFIX

COMMAND = [sys.executable, "-m", "lxcompress"]
SENTENCES = {signal.SIGINT: "interrupted", signal.SIGTERM: "terminated", signal.SIGHUP: "terminated"}
COMMANDS = (
    "study {recipe} --out {out}/run",
    "study {recipe} --out {out}/run --dry-run",
    "prune {start} --sparsity 0.5 --out {out}/pruned",
    "export {start} --onnx --out {out}/exported",
    "bench {out}/none",
    "predict {start} {recipe} --out {out}/predictions",
    "score {recipe} --questions {recipe} --annotations {recipe}",
    "report {out}",
    "status {out}",
    "pick {out}",
    "inspect {start}",
    "doctor",
    "pretrain pretrain-mini --out {out}/mini",
    "data check {recipe}",
    "data fetch --list",
    "data prepare {recipe} --out {out}/store",
    "--help",
)


def wait_for_handlers(process: subprocess.Popen[str]) -> None:
    """Wait until the command handles SIGHUP, the last signal that it installs a handler for."""
    status = Path(f"/proc/{process.pid}/status")
    if not status.is_file():  # not on Linux
        time.sleep(0.6)
        return
    while process.poll() is None:
        caught = next(line for line in status.read_text().splitlines() if line.startswith("SigCgt:"))
        if int(caught.split()[1], 16) >> (signal.SIGHUP - 1) & 1:
            return
        time.sleep(0.005)


def interrupt(line: str, after_s: float | None, number: int, paths: dict[str, Path]) -> tuple[int, str, bool]:
    """The exit code and standard error of a command that gets a signal, and whether its own code had begun.

    Without `after_s` the signal comes as soon as the command handles it.
    """
    words = [word.format(**paths) for word in line.split()]
    with subprocess.Popen(
        [*COMMAND, *words],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    ) as process:
        if after_s is None:
            wait_for_handlers(process)
        else:
            time.sleep(after_s)
        process.send_signal(number)
        said = process.communicate(timeout=120)[1]
    has_begun = "lxcompress" in said or any(word in said for word in SENTENCES.values()) or process.returncode >= 0
    return process.returncode, said, has_begun


def check(line: str, after_s: float | None, number: int, paths: dict[str, Path]) -> bool:
    """Whether the command was interrupted; asserts the law."""
    before = sorted(paths["out"].rglob("*"))
    code, said, has_begun = interrupt(line, after_s, number, paths)
    if not has_begun:  # Python itself was still starting: nothing of ours was there to answer
        return False
    about = f"{line}, {signal.Signals(number).name} after {after_s or 0:.2f} s: {said}"
    assert "Traceback" not in said, about
    made = [path for path in paths["out"].rglob("*") if path not in before and path.name.startswith(PREFIX)]
    assert not made, about
    if code in (0, 1, 2):  # it was done before
        return False
    assert code == 128 + number, about
    last = said.strip().splitlines()[-1]
    assert last.startswith(SENTENCES[number]), about
    assert sum(row.startswith(SENTENCES[number]) for row in said.splitlines()) == 1, about
    return True


@pytest.fixture
def paths(toy_start, toy_recipe_file, tmp_path) -> dict[str, Path]:
    return {"start": toy_start, "recipe": toy_recipe_file, "out": tmp_path}


@pytest.mark.parametrize("number", SENTENCES)
def test_an_early_signal_ends_a_command_in_one_sentence(number, paths) -> None:
    assert check(COMMANDS[0], None, number, paths)


HANDLER = "import os, signal\nsignal.signal(signal.SIGTERM, lambda number, frame: os._exit(3))\n"


def test_a_handler_that_python_started_with_is_replaced(paths, tmp_path_factory, monkeypatch) -> None:
    """The coverage tool installs one of its own in every process."""
    folder = tmp_path_factory.mktemp("site")
    (folder / "sitecustomize.py").write_text(HANDLER, encoding="utf-8")
    monkeypatch.setenv("PYTHONPATH", str(folder))
    assert check(COMMANDS[0], None, signal.SIGTERM, paths)


@pytest.mark.slow
def test_a_signal_at_any_moment_ends_any_command_in_one_sentence(paths) -> None:
    """Five moments for each command, 0.05 to 3 s after its start, most of them early."""
    draw, hit, tried = random.Random(13), 0, 0
    for line in COMMANDS:
        for _ in range(5):
            number = draw.choice([signal.SIGINT, signal.SIGINT, signal.SIGTERM])
            hit += check(line, 0.05 + 2.95 * draw.random() ** 2, number, paths)
            tried += 1
    print(f"{hit} of {tried} signals met a command at work")
    assert hit > tried / 4
