"""Measure the conversion of region features from base64 text: our converter and plain loaders, in turns.

    python bench/region_converter.py train2014_obj36.tsv [--rows 3000] [--rounds 5]

The rows of the TSV (LXMERT's ten columns) are repeated with new ids in a temporary file, in memory if the machine has
/dev/shm, so that the disk does not limit the speed. All contenders read this file and write to the same folder.
- plain loader: our implementation of LXMERT's reference: csv.DictReader, base64.b64decode of all six
  packed columns into float32 and int64 arrays, all of it in memory. Nothing is checked or written. It reads a
  zip through zipfile.
- plain converter: the same loop for boxes and features only, rounded to float16 and scaled by numpy, and saved as .npy:
  the arrays of a store, without its checks and checksums.
- ours: prepare_store: strict base64, every check of ids, lengths, boxes, NaN and range, SHA-256 of all data, and the
  store written, flushed (fsync) and renamed.
Each contender runs once in a round; ratios are relative to the plain loader of the same file in the same round. The
first round also checks that all wrote the same numbers. Then the parts are measured separately, on one row again and
again, and the peak memory of a process that converts a quarter of the rows, and all of them.

The reasons for our converter (2 cores, AMD EPYC with AVX-512, quiet; a row is 395 KB of text and 147 KB in the store):
- binascii decodes the features of a row in 0.46 ms, pybase64 (strict) in 0.014 ms; numpy rounds them to float16 in
  0.34 ms, torch in 0.01 ms; SHA-256 takes 0.085 ms, zlib 1.2 ms to inflate the row.
- So one thread that reads, decodes, checks and rounds needs about 0.11 ms a row, a quarter of the time of the standard
  library's base64. With checksums computed afterwards from the file, a row takes 0.20 ms. With checksums and writing in
  a second thread, it takes 0.13 ms, which uses both cores. Several decoding threads gained nothing, because they wait
  for Python's global lock. Two processes took 0.07 ms without checksums, and would take 0.11 ms with them: not worth a
  second import of torch (1 s, 200 MB) and a protocol between them. From a zip, inflating in one thread is the limit.
"""

from __future__ import annotations

import argparse
import base64
import binascii
import csv
import hashlib
import io
import json
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import zipfile
import zlib
from collections.abc import Callable
from contextlib import ExitStack
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pybase64

from lxcompress.data.regions.prepare import prepare_store
from lxcompress.data.regions.tsv import LXMERT
from lxcompress.data.regions.write import to_half
from lxcompress.machine import describe_machine
from lxcompress.rundir import write_text

FLOATS, INTEGERS = ("objects_conf", "attrs_conf", "boxes", "features"), ("objects_id", "attrs_id")
PLAIN, CONVERTER, OURS = "plain loader", "plain converter", "ours"
PLAIN_ZIPPED, OURS_ZIPPED = "plain loader, zip", "ours, zip"
COMPARED_WITH = {PLAIN: PLAIN, CONVERTER: PLAIN, OURS: PLAIN, PLAIN_ZIPPED: PLAIN_ZIPPED, OURS_ZIPPED: PLAIN_ZIPPED}
"""The contender that each one is compared with."""
WRITTEN = ("plain", "ours", "zipped")
"""The folders of the contenders that write."""
PEAK = """
import sys
from pathlib import Path
from lxcompress.data.regions.prepare import prepare_store
from lxcompress.measure.host.memory import peak_rss_bytes
if len(sys.argv) > 1:
    prepare_store([Path(sys.argv[1])], Path(sys.argv[2]))
print(peak_rss_bytes())
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=Path, help="a TSV of region features with LXMERT's ten columns")
    parser.add_argument("--rows", type=int, default=3000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--folder", type=Path, default=None, help="temporary folder; /dev/shm by default, if it exists")
    parser.add_argument("--out", type=Path, default=None, help="a folder; bench/results/MACHINE by default")
    options = parser.parse_args()
    shared = Path("/dev/shm")
    csv.field_size_limit(sys.maxsize)
    with tempfile.TemporaryDirectory(dir=options.folder or (shared if shared.is_dir() else None)) as folder:
        work = Path(folder)
        text, packed = tile(options.source, options.rows, work)
        times = race(text, packed, work, options.rounds)
        peaks = {
            "imports alone": peak_bytes(),
            f"{options.rows // 4} rows": peak_bytes(tile(options.source, options.rows // 4, work)[0], work / "peak"),
            f"{options.rows} rows": peak_bytes(text, work / "peak"),
        }
        size = text.stat().st_size
    report(times, parts(options.source), peaks, size, options)


def tile(source: Path, rows: int, folder: Path) -> tuple[Path, Path]:
    """Write a TSV of `rows` rows with different ids, and its zip."""
    lines = [line for line in source.read_bytes().split(b"\n") if line]
    assert all(line.count(b"\t") == len(LXMERT) - 1 for line in lines), f"{source} does not have LXMERT's columns"
    text, packed = folder / f"of{rows}_obj36.tsv", folder / f"of{rows}_obj36.zip"
    with text.open("wb") as file:
        for number in range(rows):
            line = lines[number % len(lines)]
            file.write(b"COCO_train2014_%012d%s\n" % (number + 1, line[line.index(b"\t") :]))
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as file:
        file.write(text, f"mscoco_imgfeat/{text.name}")
    return text, packed


def race(text: Path, packed: Path, work: Path, rounds: int) -> dict[str, list[float]]:
    """Return the seconds of each contender in each round."""
    ways: dict[str, Callable[[], object]] = {
        PLAIN: lambda: plain_loader(text),
        CONVERTER: lambda: plain_converter(text, work / WRITTEN[0]),
        OURS: lambda: prepare_store([text], work / WRITTEN[1]),
        PLAIN_ZIPPED: lambda: plain_loader(packed),
        OURS_ZIPPED: lambda: prepare_store([packed], work / WRITTEN[2]),
    }
    times: dict[str, list[float]] = {name: [] for name in ways}
    for turn in range(rounds):
        for name, way in ways.items():
            started = time.perf_counter()
            kept = way()
            times[name].append(time.perf_counter() - started)
            del kept
        if turn == 0:
            compare(work)
        for folder in WRITTEN:
            shutil.rmtree(work / folder)
    return times


def plain_loader(path: Path) -> list[dict[str, object]]:
    """Return every column of every row, decoded, in memory."""
    found = []
    with ExitStack() as stack:
        if path.suffix == ".zip":
            packed = stack.enter_context(zipfile.ZipFile(path))
            file = io.TextIOWrapper(stack.enter_context(packed.open(packed.namelist()[0])))
        else:
            file = stack.enter_context(path.open())
        for item in csv.DictReader(file, LXMERT, delimiter="\t"):
            count = int(item["num_boxes"])
            row: dict[str, object] = {"img_id": item["img_id"], "num_boxes": count}
            row |= {name: int(item[name]) for name in ("img_h", "img_w")}
            for name in (*FLOATS, *INTEGERS):
                kind = np.int64 if name in INTEGERS else np.float32
                row[name] = np.frombuffer(base64.b64decode(item[name]), dtype=kind).reshape(count, -1)
            found.append(row)
    return found


def plain_converter(path: Path, out: Path) -> int:
    """Write features and boxes as in a store, with numpy only; return the number of rows."""
    features, boxes = [], []
    with path.open() as file:
        for item in csv.DictReader(file, LXMERT, delimiter="\t"):
            count, width, height = int(item["num_boxes"]), int(item["img_w"]), int(item["img_h"])
            values = np.frombuffer(base64.b64decode(item["features"]), dtype=np.float32).reshape(count, -1)
            box = np.frombuffer(base64.b64decode(item["boxes"]), dtype=np.float32).reshape(count, 4)
            features.append(values.astype(np.float16))
            boxes.append(box / np.asarray([width, height, width, height], dtype=np.float32))
    out.mkdir()
    np.save(out / "features.npy", np.stack(features))
    np.save(out / "boxes.npy", np.stack(boxes))
    return len(features)


def compare(work: Path) -> None:
    """Check that all wrote the same numbers."""
    for name in ("features.npy", "boxes.npy"):
        plain = np.load(work / WRITTEN[0] / name, mmap_mode="r")
        for folder in WRITTEN[1:]:
            assert np.array_equal(plain, np.load(work / folder / name, mmap_mode="r")), f"{folder}/{name} differs"


def parts(source: Path) -> dict[str, float]:
    """Return the seconds of each part for the features of one row: the smallest of many."""
    line = source.read_bytes().split(b"\n")[0]
    packed = line.rpartition(b"\t")[2].strip()
    raw = np.frombuffer(pybase64.b64decode_as_bytearray(packed, validate=True), dtype=np.float32)
    half, squeezed = np.empty(raw.shape, np.float16), zlib.compress(line)
    ways: dict[str, Callable[[], object]] = {
        "binascii.a2b_base64": lambda: binascii.a2b_base64(packed),
        "pybase64, strict": lambda: pybase64.b64decode_as_bytearray(packed, validate=True),
        "to float16, numpy": lambda: np.copyto(half, raw, casting="same_kind"),
        "to float16, torch": lambda: to_half(raw, half),
        "SHA-256 of float16": lambda: hashlib.sha256(half).digest(),
        "inflating, zlib": lambda: zlib.decompress(squeezed),
    }
    return {name: min(_time(way) for _ in range(60)) for name, way in ways.items()}


def _time(way: Callable[[], object]) -> float:
    started = time.perf_counter()
    way()
    return time.perf_counter() - started


def peak_bytes(*paths: Path) -> int:
    """Return the peak memory of a process that converts the first of `paths` into the second."""
    done = subprocess.run([sys.executable, "-c", PEAK, *map(str, paths)], capture_output=True, text=True, check=True)
    if paths:
        shutil.rmtree(paths[1])
    return int(done.stdout)


def report(times, parts_s, peaks, size: int, options) -> None:
    """Print the results, and save them with their raw values and the machine."""
    machine = describe_machine()
    print(f"{options.rows} rows, {size / 1e6:.0f} MB of text, {options.rounds} rounds; {machine.processor}", end="")
    print(f", {machine.cores} cores\n")
    print(f"{'':24}{'rows/s':>8}{'MB/s':>8}{'ms/row':>9}    times as fast as the plain loader of that file")
    for name, values in times.items():
        middle = statistics.median(values)
        ratios = [plain / value for plain, value in zip(times[COMPARED_WITH[name]], values, strict=True)]
        spread = f"{statistics.median(ratios):.1f} ({min(ratios):.1f} to {max(ratios):.1f})"
        rates = f"{options.rows / middle:8.0f}{size / 1e6 / middle:8.0f}{1000 * middle / options.rows:9.3f}"
        print(f"{name:24}{rates}    {spread}")
    print("\nthe parts, ms a row")
    for name, value in parts_s.items():
        print(f"{name:24}{1000 * value:8.3f}")
    print("\npeak memory, MB")
    for name, value in peaks.items():
        print(f"{name:24}{value / 1e6:8.0f}")
    found = {
        "rows": options.rows,
        "text_bytes": size,
        "times_s": times,
        "parts_s": parts_s,
        "peak_bytes": peaks,
        "pybase64": version("pybase64"),
        "machine": machine.model_dump(mode="json"),
    }
    name = re.sub(r"[^a-z0-9]+", "-", f"{machine.processor} {machine.cores} cores".lower())
    path = (options.out or Path(__file__).parent / "results" / name) / "region_converter.json"
    write_text(path, json.dumps(found, indent=1) + "\n")
    print(f"\nsaved in {path}")


if __name__ == "__main__":
    main()
