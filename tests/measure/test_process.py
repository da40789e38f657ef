"""A worker is a process of its own, holds its runtime and no torch, and does not die unexplained."""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from lxcompress.errors import MeasureError
from lxcompress.measure.messages import SetupRequest, TurnReply, TurnRequest, read_message, write_message
from lxcompress.measure.process import start_worker

ROOT = Path(__file__).resolve().parents[2]
SERVE_AND_LIST = """
import io, sys
from lxcompress.measure.worker import serve
replies = io.StringIO()
serve(io.StringIO(sys.argv[1]), replies)
assert replies.getvalue().count("\\n") == 2
print(" ".join(name for name in ("torch", "transformers", "pydantic", "onnxruntime") if name in sys.modules))
"""


def _setup(path: Path, **changes: object) -> SetupRequest:
    setup = SetupRequest(
        path=str(path),
        runtime="onnxruntime",
        threads=1,
        cores=sorted(os.sched_getaffinity(0))[-1:] if hasattr(os, "sched_getaffinity") else [0],
        warmup=1,
        lengths=[7],
        objects=5,
        feature_size=6,
        seed=0,
        images=1,
        files=["model.onnx"],
        powercap="/sys/class/powercap",
    )
    return dataclasses.replace(setup, **changes)


def test_a_worker_has_imported_its_runtime_and_neither_torch_nor_pydantic(small: Path) -> None:
    requests = write_message(_setup(small)) + write_message(TurnRequest([7, 7]))
    done = subprocess.run(
        [sys.executable, "-c", SERVE_AND_LIST, requests], capture_output=True, text=True, cwd=ROOT, check=True
    )
    assert done.stdout.split() == ["onnxruntime"]


def test_a_worker_is_another_process_and_ends_with_its_block(small: Path) -> None:
    with start_worker(_setup(small)) as worker:
        assert worker.process.pid != os.getpid()
        reply = worker.run([7] * 4)
        assert len(reply.seconds) == 4
        assert reply.peak_bytes >= worker.ready.peak_bytes > 0
        assert reply.cpu_s >= worker.ready.cpu_s
    assert worker.process.returncode is not None


@pytest.mark.skipif(not hasattr(psutil.Process, "cpu_affinity"), reason="this system holds no process to a core")
def test_a_worker_is_held_to_the_cores_it_was_given(small: Path) -> None:
    setup = _setup(small)
    with start_worker(setup) as worker:
        assert worker.ready.is_pinned
        assert psutil.Process(worker.process.pid).cpu_affinity() == setup.cores


def test_a_killed_worker_is_an_error_that_says_so(small: Path) -> None:
    with start_worker(_setup(small)) as worker:
        worker.process.kill()
        with pytest.raises(MeasureError, match=r"the process that measured it died"):
            worker.run([7])


def test_a_crashed_worker_leaves_its_last_words(small: Path) -> None:
    with (
        pytest.raises(MeasureError, match=r"died .*exit code 1.*TypeError"),
        start_worker(_setup(small, warmup="many")),
    ):
        pass


def test_what_a_worker_cannot_do_comes_back_as_its_sentence(small: Path, tmp_path: Path) -> None:
    with pytest.raises(MeasureError, match="runtime abacus: is unknown"), start_worker(_setup(small, runtime="abacus")):
        pass
    with pytest.raises(MeasureError, match="no such file"), start_worker(_setup(tmp_path)):
        pass


def test_messages_come_back_as_they_went() -> None:
    for message in (_setup(Path("a b")), TurnRequest([3]), TurnReply([0.1, 1e-9], 5, 4, 0.25, None, 1)):
        assert read_message(write_message(message)) == message


@pytest.mark.parametrize("line", ["", "\n", "[]\n", "{}\n", '{"kind": "Turn"}\n', '{"kind": "Nothing"}\n', "noise\n"])
def test_what_is_no_message_is_refused(line: str) -> None:
    with pytest.raises(ValueError, match="not a message"):
        read_message(line)
