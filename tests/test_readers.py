"""The law of readers: whatever a file holds, a value or one sentence comes of it, soon and in little memory.

The changes are those of tests/mutate.py, the files those of tests/readers.py. A failure prints the kind and the seed:
`python -m tests.mutate` repeats it.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.mutate import find_problem, limit_memory, run_case
from tests.readers import KINDS

FEW, MANY = 5, 300
FOUND = {
    "a journal of a source that is none": ("store journal", b'"source": 0', b'"source": 5'),
    "a journal of more images than rows": ("store journal", b'"images": 3', b'"images": 1000000000000000000'),
    "a journal of fewer ids than images": ("store journal", b'"ids_bytes": 84', b'"ids_bytes": 28'),
    "a journal whose ids end in a line": ("store journal", b'"ids_bytes": 84', b'"ids_bytes": 83'),
    "a journal without regions": ("store journal", b'"objects": 5', b'"objects": 0'),
    "a journal of regions without end": ("store journal", b'"features": 6', b'"features": 1000000000000000000'),
    "a journal of a feature beyond float16": ("store journal", b'"largest_bits": 18690', b'"largest_bits": 99999'),
    "a journal of a first row beyond its rows": ("store journal", b'"first": 0', b'"first": 9'),
    "a journal of an offset beyond 64 bits": ("store journal", b'"offset": 792', b'"offset": 99999999999999999999'),
    "a shard whose name is too long": (
        "index of shards",
        b': "all.safetensors',
        b': "' + b"[" * 2000 + b"all.safetensors",
    ),
    "a soft hyphen in a header": ("store features", b"'fortran_order'", b"'fortran\xadrder'"),
}
"""What the mutator found: the kind, and what of the file was changed to what; each is refused."""
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


@pytest.mark.parametrize("name", FOUND)
def test_what_was_found_is_refused_in_one_sentence(name, tmp_path) -> None:
    kind, sound, changed = FOUND[name]
    subject = KINDS[kind](tmp_path)
    data = (tmp_path / subject.file).read_bytes()
    assert data.count(sound) >= 1
    (tmp_path / subject.file).write_bytes(data.replace(sound, changed, 1))
    assert find_problem(lambda: subject.read(tmp_path)) == (True, None)


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_many_changed_files_are_read_or_refused_in_one_sentence(kind, tmp_path) -> None:
    assert not find_failures(kind, tmp_path, MANY)
