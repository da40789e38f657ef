"""Stream the lines of a large text file (plain, gzip, or in a zip) in constant memory, from any line on."""

from __future__ import annotations

import gzip
import io
import queue
import threading
import zipfile
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, NamedTuple, Protocol

from lxcompress.data.archives import DAMAGE, GZIP, check_ratio, most_unpacked
from lxcompress.data.regions.rows import FIRST, ROW_LIMIT_BYTES, Position
from lxcompress.errors import DataError, unreadable

READ_BYTES = 1 << 20
"""The bytes of one read. Together with the results of a row they fit into the CPU's second-level cache; larger reads
were slower."""
AHEAD = 4
"""How many pieces of READ_BYTES a thread decompresses before they are needed."""
GZIP_RATIO = 0.6
"""The approximate size of gzipped base64 text, relative to the text; real features gave 0.55."""


class TextLine(NamedTuple):
    """A line without its line end: the bytes `start` to `stop` of `buffer`.

    The buffer is used again for the next line. For a line of more than ROW_LIMIT_BYTES, `stop` is -1, and the buffer
    does not have the line.
    """

    position: Position
    buffer: bytearray
    start: int
    stop: int


@dataclass(frozen=True)
class TextFile:
    """A text file: the file `path`, or the file `member` in the zip archive `path`."""

    path: Path
    member: str = ""

    @property
    def where(self) -> str:
        return f"{self.path}/{self.member}" if self.member else str(self.path)

    @contextmanager
    def lines(self, start: Position = FIRST) -> Iterator[Iterator[TextLine]]:
        """Open the file; yield an iterator over its lines from `start` on. A thread decompresses a compressed file."""
        with self._open() as stream:
            if isinstance(stream, io.FileIO):  # plain text
                stream.seek(start.offset)
                yield self._split(stream, start)
            else:
                with closing(_ReadAhead(stream, self._packed_bytes())) as ahead:
                    yield self._split(ahead, start, skip=start.offset)

    def size_bytes(self) -> int:
        """Return the bytes of the file on the disk; for a file in a zip, its compressed size."""
        if self.member:
            with self._zip() as packed:
                return packed.getinfo(self.member).compress_size
        return self.path.stat().st_size

    def text_bytes(self) -> int:
        """Return the number of bytes of the uncompressed text.

        For gzip it is an estimate: the last four bytes of the file tell the size modulo 2^32, and GZIP_RATIO the rest.
        """
        if self.member:
            with self._zip() as packed:
                return min(packed.getinfo(self.member).file_size, most_unpacked(self._packed_bytes()))
        size = self.path.stat().st_size
        if self._is_plain:
            return size
        with self.path.open("rb") as file:
            file.seek(max(0, size - 4))
            low = int.from_bytes(file.read(4), "little")
        return min(most_unpacked(size), low + max(0, round((size / GZIP_RATIO - low) / 2**32)) * 2**32)

    def _packed_bytes(self) -> int:
        """Return the compressed size in bytes; a wrong size in a zip is limited to the size of the zip."""
        return min(self.size_bytes(), self.path.stat().st_size)

    @property
    def _is_plain(self) -> bool:
        """Return whether the file is not compressed."""
        return not self.member and begins(self.path, len(GZIP)) != GZIP

    @contextmanager
    def _open(self) -> Iterator[IO[bytes] | gzip.GzipFile]:
        """Open the uncompressed text as a stream of bytes. Raises DataError."""
        with ExitStack() as stack:
            stream: IO[bytes] | gzip.GzipFile
            try:
                if self.member:
                    stream = stack.enter_context(stack.enter_context(self._zip()).open(self.member))
                elif self._is_plain:
                    stream = stack.enter_context(self.path.open("rb", buffering=0))
                else:
                    stream = stack.enter_context(gzip.open(self.path))
            except DAMAGE as problem:
                raise self._damaged(problem) from None
            yield stream

    def _zip(self) -> zipfile.ZipFile:
        """Return the open zip archive. Raises DataError."""
        try:
            return zipfile.ZipFile(self.path)
        except DAMAGE as problem:
            raise self._damaged(problem) from None

    def _split(self, stream: _Stream, start: Position, skip: int = 0) -> Iterator[TextLine]:
        """Yield the lines as `_split` does. Raises DataError for a damaged file."""
        try:
            yield from _split(stream, start, skip)
        except DAMAGE as problem:
            raise self._damaged(problem) from None

    def _damaged(self, problem: Exception) -> DataError:
        """Return the error for a file that cannot be read further because of `problem`."""
        found = unreadable(self.where, problem, DataError)
        return found or DataError(
            f"{self.where}: cannot be read further ({problem}); download it again and run the same command"
        )


def begins(path: Path, count: int) -> bytes:
    """Return the first `count` bytes of a file."""
    with path.open("rb") as file:
        return file.read(count)


def _split(stream: _Stream, start: Position, skip: int) -> Iterator[TextLine]:
    """Yield the lines of `stream` from `start` on; the stream begins `skip` bytes before `start`.

    Empty lines are counted, but not yielded.
    """
    buffer = bytearray(2 * READ_BYTES)
    while skip:
        with memoryview(buffer) as view:
            count = stream.readinto(view[: min(skip, len(buffer))])
        if not count:
            return
        skip -= count
    item, offset = start
    first = have = 0  # buffer[first:have] are the bytes that are not used yet: the beginning of the line at `offset`
    dropped = 0  # how many bytes of this line were dropped, because the line is longer than a row may be
    while True:
        with memoryview(buffer) as view:
            count = stream.readinto(view[have : have + READ_BYTES])
        seen, have = have, have + count
        while (stop := buffer.find(b"\n", seen, have)) >= 0 or (not count and have + dropped > first):
            stop = have if stop < 0 else stop  # the last line may lack its line end
            length = dropped + stop - first
            if length > ROW_LIMIT_BYTES:
                yield TextLine(Position(item, offset), buffer, 0, -1)
            elif length:
                yield TextLine(Position(item, offset), buffer, first, stop)
            item, offset = item + 1, offset + length + 1
            first = seen = min(stop + 1, have)
            dropped = 0
        if not count:
            return
        if have - first > ROW_LIMIT_BYTES:
            dropped += have - first
            first = have
        left = have - first
        is_small = len(buffer) < left + READ_BYTES
        larger = bytearray(min(2 * len(buffer), ROW_LIMIT_BYTES + 2 * READ_BYTES)) if is_small else buffer
        with memoryview(buffer) as view, memoryview(larger) as room:
            room[:left] = view[first:have]
        buffer, first, have = larger, 0, left


class _Stream(Protocol):
    """A stream of bytes that fills a buffer, as io.RawIOBase does."""

    def readinto(self, view: memoryview, /) -> int: ...


class _ReadAhead:
    """A stream that a thread reads before the bytes are needed.

    Two threads are faster, because decompression releases the global interpreter lock.
    """

    def __init__(self, stream: IO[bytes] | gzip.GzipFile, packed_bytes: int) -> None:
        self._packed_bytes = packed_bytes
        self._pieces: queue.Queue[bytes | BaseException] = queue.Queue(AHEAD)
        self._is_closed = threading.Event()
        self._piece = memoryview(b"")
        self._thread = threading.Thread(target=self._run, args=(stream,), name="inflate", daemon=True)
        self._thread.start()

    def readinto(self, view: memoryview, /) -> int:
        if not self._piece:
            came = self._pieces.get()
            if isinstance(came, BaseException):
                raise came
            self._piece = memoryview(came)
        count = min(len(view), len(self._piece))
        view[:count] = self._piece[:count]
        self._piece = self._piece[count:]
        return count

    def close(self) -> None:
        self._is_closed.set()
        self._thread.join()

    def _run(self, stream: IO[bytes] | gzip.GzipFile) -> None:
        """Read `stream` to its end, or until `close`: the work of the thread."""
        is_over, size = False, 0
        while not is_over:
            came: bytes | BaseException
            try:
                came = piece = stream.read(READ_BYTES)
                size += len(piece)
                check_ratio(size, self._packed_bytes)
            except Exception as problem:  # `readinto` raises it, in the thread that uses the stream
                came = problem
            is_over = not came or isinstance(came, BaseException)
            while not self._is_closed.is_set():
                with suppress(queue.Full):
                    self._pieces.put(came, timeout=0.05)
                    break
            is_over = is_over or self._is_closed.is_set()
