"""ExecuTorch's runtime keeps to its threads, keeps the terminal clean, and names what is wrong with a file."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from lxcompress.errors import MeasureError
from lxcompress.exporters.executorch import lower
from lxcompress.runtimes import open_session
from lxcompress.runtimes.executorch import has_xnnpack, library
from tests import children
from tests.runtimes.broken import check_broken_inputs_are_refused

ROOT = Path(__file__).resolve().parents[2]
FEATURES = 6


class Sums(nn.Module):
    """A program of one product, and LXMERT's inputs."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(FEATURES, 3)

    def forward(self, words: Tensor, said: Tensor, features: Tensor, boxes: Tensor, seen: Tensor) -> Tensor:
        counted = ((words * said).sum() + seen.sum() + boxes.sum()).float()
        return self.head(features.sum(1)) + counted


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with model.pte."""
    ids = torch.ones(1, 4, dtype=torch.int64)
    example = (ids, ids, torch.ones(1, 3, FEATURES), torch.ones(1, 3, 4), torch.ones(1, 3, dtype=torch.int64))
    made = lower(torch.export.export(Sums().eval(), example))
    folder = tmp_path_factory.mktemp("program")
    (folder / "model.pte").write_bytes(made.buffer)
    return folder


def _feeds(rows: int) -> dict[str, np.ndarray]:
    random = np.random.default_rng(rows)
    return {
        "input_ids": random.integers(0, 30, (rows, 4)),
        "attention_mask": random.integers(0, 2, (rows, 4)),
        "visual_feats": random.random((rows, 3, FEATURES), dtype=np.float32),
        "visual_pos": random.random((rows, 3, 4), dtype=np.float32),
        "visual_attention_mask": random.integers(0, 2, (rows, 3)),
    }


def test_a_batch_is_answered_as_its_questions_alone(program: Path) -> None:
    session, feeds = open_session(program, threads=1, runtime="executorch"), _feeds(5)
    together = session.answer(feeds)
    assert together.shape == (5, 3)
    assert together.dtype == np.float32
    alone = [session.answer({name: each[row : row + 1] for name, each in feeds.items()}) for row in range(5)]
    np.testing.assert_array_equal(together, np.concatenate(alone))
    assert len(np.unique(together, axis=0)) == 5


def test_a_folder_and_the_file_in_it_are_the_same(program: Path) -> None:
    feeds = _feeds(2)
    from_file = open_session(program / "model.pte", threads=1, runtime="executorch").answer(feeds)
    np.testing.assert_array_equal(open_session(program, threads=1, runtime="executorch").answer(feeds), from_file)


@pytest.mark.parametrize("threads", [2, 1])
def test_threads_are_as_many_as_asked_for(program: Path, threads: int) -> None:
    open_session(program, threads=threads, runtime="executorch")
    assert library._threadpool_get_thread_count() == threads


def test_broken_inputs_are_refused(program: Path) -> None:
    check_broken_inputs_are_refused(open_session(program, threads=1, runtime="executorch"), _feeds(2))


def test_the_kernels_are_there() -> None:
    assert has_xnnpack()


def test_the_terminal_stays_clean_and_the_exporter_away(program: Path) -> None:
    """The runtime's remarks are held back, and a measured process is charged with nothing but the runtime."""
    code = f"""
import sys
from pathlib import Path
from lxcompress.runtimes import open_session
open_session(Path({str(program)!r}), threads=1, runtime="executorch")
assert not any(name.startswith(("executorch.exir", "torchao", "transformers")) for name in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, capture_output=True, text=True)
    assert done.stdout == done.stderr == ""


def test_torchao_says_nothing_whatever_is_imported_first() -> None:
    """It warns of kernels for GPUs, and lets torch warn, where the exporter imports it."""
    pytest.importorskip("torchao")
    code = """
import logging, warnings
for name in ("torchao", "torch.utils._pytree"):
    logging.getLogger(name).setLevel(logging.NOTSET)  # which their server had silenced
warnings.simplefilter("ignore")
import lxcompress.pruning.controls, executorch.exir._serialize._flatbuffer_program, torchao
"""
    done = children.run(code)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_standard_error_is_given_back(program: Path, capfd: pytest.CaptureFixture[str]) -> None:
    open_session(program, threads=1, runtime="executorch")
    os.write(2, b"heard")
    assert capfd.readouterr().err == "heard"


def test_files_that_cannot_be_served_are_one_sentence(program: Path, tmp_path: Path) -> None:
    with pytest.raises(MeasureError, match=r"model\.pte: no such file"):
        open_session(tmp_path, threads=1, runtime="executorch")
    whole = (program / "model.pte").read_bytes()
    for length in (0, 30, len(whole) // 2, len(whole) - 1):
        (tmp_path / "model.pte").write_bytes(whole[:length])
        with pytest.raises(MeasureError, match=r"^[^\n]*(is not an ExecuTorch program|is cut short)[^\n]*$"):
            open_session(tmp_path, threads=1, runtime="executorch")
    (tmp_path / "model.pte").write_bytes(whole[:64] + bytes(len(whole) - 64))
    with pytest.raises(MeasureError, match=r"^[^\n]*cannot load it[^\n]*$"):
        open_session(tmp_path, threads=1, runtime="executorch")
