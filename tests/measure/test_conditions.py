"""Clock, memory, cores and made-up inputs: what a timing rests on."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

import lxcompress
from lxcompress.machine import describe_machine, usable_cores
from lxcompress.measure.host.clock import time_runs
from lxcompress.measure.host.cores import (
    ProcessorTime,
    choose_cores,
    cores_held,
    count_busy,
    read_processor_time,
    share_of_others,
    thread_seconds,
)
from lxcompress.measure.host.memory import peak_rss_bytes, rss_bytes
from lxcompress.measure.inputs import make_feeds

ROOT = Path(__file__).resolve().parents[2]
GROW = """
from lxcompress.measure.host.memory import peak_rss_bytes
before = peak_rss_bytes()
block = b"x" * 64_000_000
during = peak_rss_bytes()
del block
print(before, during, peak_rss_bytes())
"""


def test_every_run_is_timed_once_and_the_collector_is_left_as_it_was() -> None:
    calls: list[bool] = []
    seconds = time_runs(lambda question: calls.append(gc.isenabled()), range(6))
    assert len(seconds) == len(calls) == 6
    assert all(value >= 0 for value in seconds)
    assert not any(calls)
    assert gc.isenabled()


def test_the_collector_comes_back_after_a_failed_run() -> None:
    with pytest.raises(ZeroDivisionError):
        time_runs(lambda question: 1 / question, [0])
    assert gc.isenabled()


def test_peak_memory_counts_what_was_held_and_does_not_forget_it() -> None:
    done = subprocess.run([sys.executable, "-c", GROW], capture_output=True, text=True, cwd=ROOT, check=True)
    before, during, after = map(int, done.stdout.split())
    assert 60_000_000 < during - before < 80_000_000
    assert after > during - 1_000_000  # Linux counts pages core by core, and adds up with that much slack


def test_peak_memory_is_not_inherited_from_the_process_that_started_this_one() -> None:
    ballast = np.ones(40_000_000)  # 320 MB, resident
    done = subprocess.run([sys.executable, "-c", GROW], capture_output=True, text=True, cwd=ROOT, check=True)
    assert int(done.stdout.split()[0]) < ballast.nbytes


@pytest.mark.parametrize("threads", [1, 2, 3, 1000])
def test_chosen_cores_are_distinct_usable_and_as_many_as_there_can_be(threads: int) -> None:
    usable = usable_cores()
    chosen = choose_cores(usable, threads)
    assert set(chosen) <= set(usable)
    assert len(set(chosen)) == len(chosen) == min(threads, len(usable))


def test_more_threads_keep_the_cores_of_fewer() -> None:
    usable = usable_cores()
    for threads in range(1, len(usable)):
        assert choose_cores(usable, threads) == choose_cores(usable, threads + 1)[:threads]


linux = pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells what each thread took")


@linux
def test_threads_that_compute_are_counted_and_those_that_wait_are_not() -> None:
    before, end = thread_seconds(), threading.Event()
    burning = [threading.Thread(target=lambda: (_burn(0.05), end.wait())) for _ in range(2)]
    threads = [*burning, threading.Thread(target=end.wait)]
    for thread in threads:
        thread.start()
    while sum(each >= 0.05 for each in thread_seconds().values()) < 2:
        time.sleep(0.01)
    after = {thread.native_id: thread_seconds()[thread.native_id] for thread in threads}
    end.set()
    for thread in threads:
        thread.join()
    assert count_busy(before, after) == 2
    assert count_busy(None, after) is count_busy(before, None) is None


@linux
def test_the_cores_held_are_those_of_every_thread() -> None:
    mine, end = os.sched_getaffinity(0), threading.Event()
    assert set(cores_held()) == mine
    strayed = threading.Thread(target=lambda: (os.sched_setaffinity(0, {min(mine)}), end.wait()))
    strayed.start()
    assert set(cores_held()) == mine
    end.set()
    strayed.join()


def test_memory_held_now_is_no_more_than_the_most() -> None:
    assert 1_000_000 < rss_bytes() <= peak_rss_bytes() + 1_000_000


def _burn(seconds: float) -> None:
    end = time.thread_time() + seconds
    while time.thread_time() < end:
        continue


def test_the_share_of_others_is_what_is_left_of_the_work() -> None:
    before = ProcessorTime(busy_s=10, all_s=100)
    after = ProcessorTime(busy_s=14, all_s=110)
    assert share_of_others(before, after, own_s=0) == pytest.approx(0.4)
    assert share_of_others(before, after, own_s=3) == pytest.approx(0.1)
    assert share_of_others(before, after, own_s=5) == 0
    assert share_of_others(before, before, own_s=0) == 0


def test_processor_time_never_runs_back() -> None:
    before, after = read_processor_time(), read_processor_time()
    assert 0 < before.busy_s <= after.busy_s
    assert before.all_s <= after.all_s
    assert before.busy_s < before.all_s


def test_feeds_are_the_sizes_asked_for_and_the_same_for_a_seed() -> None:
    feeds = make_feeds(tokens=9, objects=4, feature_size=3, seed=5)
    again = make_feeds(tokens=9, objects=4, feature_size=3, seed=5)
    other = make_feeds(tokens=9, objects=4, feature_size=3, seed=6)
    assert {name: (value.shape, value.dtype.name) for name, value in feeds.items()} == {
        "input_ids": ((1, 9), "int64"),
        "attention_mask": ((1, 9), "int64"),
        "visual_feats": ((1, 4, 3), "float32"),
        "visual_pos": ((1, 4, 4), "float32"),
        "visual_attention_mask": ((1, 4), "int64"),
    }
    assert all(np.array_equal(feeds[name], again[name]) for name in feeds)
    assert not np.array_equal(feeds["visual_feats"], other["visual_feats"])
    boxes = feeds["visual_pos"]
    assert np.all(boxes[..., :2] <= boxes[..., 2:])
    assert np.all((boxes >= 0) & (boxes <= 1))


def test_each_image_of_a_question_has_a_row_with_the_same_words() -> None:
    feeds = make_feeds(tokens=9, objects=4, images=3, feature_size=3, seed=5)
    assert {len(value) for value in feeds.values()} == {3}
    assert np.array_equal(feeds["input_ids"], np.repeat(feeds["input_ids"][:1], 3, axis=0))
    for name in ("visual_feats", "visual_pos"):
        assert len(np.unique(feeds[name].reshape(3, -1), axis=0)) == 3


def test_feeds_use_words_that_the_shipped_vocabulary_has() -> None:
    words = (ROOT / "lxcompress" / "data" / "vocab.txt").read_text(encoding="utf-8").splitlines()
    assert make_feeds(tokens=1000, objects=1, feature_size=1, seed=0)["input_ids"].max() < len(words)


def test_the_machine_names_itself_and_its_libraries() -> None:
    machine = describe_machine()
    assert machine.cores == len(usable_cores()) >= 1
    assert machine.memory_bytes > 0
    assert machine.processor
    assert machine.packages["lxcompress"] == lxcompress.__version__
    assert {"torch", "numpy", "onnxruntime"} <= set(machine.packages)


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere torch alone knows whether there is a GPU")
@pytest.mark.parametrize("file", ["nvidiactl", "nvhost-gpu", "dxg", "kfd", "null"])
def test_torch_is_asked_for_the_gpu_where_there_is_a_driver(file: str) -> None:
    """The import of torch takes a second, and a machine without a driver has no GPU."""
    code = f"""
import os, sys, types
os.listdir = lambda folder: ["tty", {file!r}]
sys.modules["torch"] = types.SimpleNamespace(
    cuda=types.SimpleNamespace(is_available=lambda: True, get_device_name=lambda index: "Toy GPU")
)
from lxcompress.machine import accelerator_name
print(accelerator_name())
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    assert done.stdout == ("None\n" if file == "null" else "Toy GPU\n")
