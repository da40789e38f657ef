"""Measure what the second question about an image costs: `see` once, then `ask`, compared with a plain run.

    python bench/second_question.py FILE.lxe ... [--tokens 20 9] [--objects 36] [--threads 1] [--rounds 30]
        [--quantile 0.5] [--out FILE]

FILE is an engine file. In each round, every file does a plain run, then `see`, then `ask`. Ratios compare the medians
of the same rounds, with a 95 % bootstrap interval. On a machine that is not quiet, --quantile 0.1 compares the fastest
tenth instead. The weights do not matter, so the files of bench/full_size.py serve.
Close other programs. The samples are saved in --out.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from lxcompress.engine import InferenceSession
from lxcompress.machine import describe_machine
from lxcompress.measure.inputs import make_feeds
from lxcompress.rundir import write_text
from lxcompress.runtimes.image import IMAGE_INPUTS, QUESTION_INPUTS
from lxcompress.stats import bootstrap_interval, resample

WARMUP = 2
SEED = 0
CALLS = ("run", "see", "ask")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", type=Path, nargs="+")
    parser.add_argument("--tokens", type=int, nargs="+", default=[20])
    parser.add_argument("--objects", type=int, default=36)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--quantile", type=float, default=0.5, help="The times that are compared; 0.5: the medians.")
    parser.add_argument("--out", type=Path, help="File for the samples (JSON).")
    options = parser.parse_args()
    samples = []
    print("| file | tokens | plain run ms | see ms | ask ms | run / ask |\n|---|---|---|---|---|---|")
    for tokens in options.tokens:
        sessions = {path.stem: InferenceSession(path, threads=options.threads) for path in options.files}
        for name, seconds in measure(sessions, tokens, options.objects, options.rounds).items():
            print(row(name, tokens, seconds, options.quantile), flush=True)
            samples.append({"file": name, "tokens": tokens, "objects": options.objects, "seconds": seconds})
    if options.out:
        record = {"machine": describe_machine().model_dump(), "threads": options.threads, "samples": samples}
        write_text(options.out, json.dumps(record) + "\n")


def measure(
    sessions: dict[str, InferenceSession], tokens: int, objects: int, rounds: int
) -> dict[str, dict[str, list[float]]]:
    """Return the seconds of each call of each file; the files and the calls take turns."""
    found: dict[str, dict[str, list[float]]] = {name: {call: [] for call in CALLS} for name in sessions}
    for number in range(WARMUP + rounds):
        for name, session in sessions.items():
            for call, seconds in time_calls(session, tokens, objects).items():
                if number >= WARMUP:
                    found[name][call].append(seconds)
    return found


def time_calls(session: InferenceSession, tokens: int, objects: int) -> dict[str, float]:
    """Return the seconds of one plain run, of `see`, and of `ask`. Checks that the answers are the same."""
    width = next(given.shape[2] for given in session.get_inputs() if given.name == "visual_feats")
    feeds = make_feeds(tokens=tokens, objects=objects, feature_size=int(width), seed=SEED)
    image = {name: feeds[name] for name in IMAGE_INPUTS}
    question = {name: feeds[name] for name in QUESTION_INPUTS}
    plain, run_s = timed(lambda: session.run(None, feeds)[0])
    _, see_s = timed(lambda: session.see(image))
    asked, ask_s = timed(lambda: session.ask(question))
    assert np.array_equal(plain, asked), "an answer changed"
    return {"run": run_s, "see": see_s, "ask": ask_s}


def timed(call: Callable[[], object]) -> tuple[object, float]:
    """Return what `call` returns, and its seconds."""
    start = time.perf_counter()
    result = call()
    return result, time.perf_counter() - start


def row(name: str, tokens: int, seconds: dict[str, list[float]], quantile: float) -> str:
    """Return a row of the table: a quantile of each call, and the ratio with its interval."""
    times = [1e3 * float(np.quantile(seconds[call], quantile)) for call in CALLS]
    run, ask = np.array(seconds["run"]), np.array(seconds["ask"])
    chosen = resample(len(run), seed=SEED)
    ratios = np.quantile(run[chosen], quantile, axis=1) / np.quantile(ask[chosen], quantile, axis=1)
    low, high = bootstrap_interval(ratios, len(run))
    ratio = f"{times[0] / times[2]:.2f} [{low:.2f}, {high:.2f}]"
    return f"| {name} | {tokens} | {' | '.join(f'{value:.1f}' for value in times)} | {ratio} |"


if __name__ == "__main__":
    main()
