"""The law of readers: whatever a file holds, a value or one sentence comes of it, soon and in little memory.

The changes are those of tests/mutate.py, the files those of tests/readers.py. A failure prints the kind and the seed:
`python -m tests.mutate` repeats it.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.mutate import limit_memory, run_case
from tests.readers import KINDS

FEW, MANY = 5, 300
MORE_BYTES = 8 << 30


def find_failures(kind: str, folder: Path, count: int) -> list[str]:
    pytest.importorskip("h5py")
    subject = KINDS[kind](folder)
    subject.read(folder)  # a sound file is read
    for left in folder.glob("store"):
        if not (folder / subject.file).is_relative_to(left):
            for file in left.iterdir():
                file.unlink()
            left.rmdir()
    with limit_memory(MORE_BYTES):
        found = [run_case(kind, subject, folder, seed) for seed in range(count)]
    return [str(outcome.failure) for outcome in found if outcome.failure]


@pytest.mark.parametrize("kind", KINDS)
def test_a_changed_file_is_read_or_refused_in_one_sentence(kind, tmp_path) -> None:
    assert not find_failures(kind, tmp_path, FEW)


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_many_changed_files_are_read_or_refused_in_one_sentence(kind, tmp_path) -> None:
    assert not find_failures(kind, tmp_path, MANY)
