"""How pruning changes the reliability of the models of a run: a Markdown table, and a CSV with a row for each run.

lxcompress reliability RUN
python bench/reliability_table.py RUN --csv FILE
"""

from __future__ import annotations

import argparse
from pathlib import Path

from lxcompress.analysis.groups import Spread
from lxcompress.analysis.reliability import CHANGES, MEASURES, Reliability, measured_reliability
from lxcompress.analysis.summary import summarise
from lxcompress.analysis.words import plus_minus
from lxcompress.output import csv_text
from lxcompress.rundir import read_run

SHOWN = {
    "accuracy": "accuracy",
    "raw_calibration_error": "ECE",
    "calibration_error": "ECE at T",
    "temperature": "T",
    "area": "AURC",
    "excess_area": "excess",
    "coverage_at_5": "coverage at 5 %",
    "coverage_at_10": "at 10 %",
    "majority_rate": "majority rate",
}


def main() -> None:
    """Print the table of the run folder that the command line names, and write its CSV file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--csv", type=Path)
    arguments = parser.parse_args()
    rows = measured_reliability(summarise(read_run(arguments.run)))
    print(f"| model | {' | '.join(SHOWN.values())} | lost | gained |")
    print("|---" * (len(SHOWN) + 3) + "|")
    for row in rows:
        print(f"| {row.label} | {' | '.join(_cells(row))} |")
    for row in rows:
        kinds = {kind: rate for kind, rate in row.changes.items() if kind != "all"}
        words = (f"{kind} {rate.right_to_wrong:.1%} / {rate.wrong_to_right:.1%}" for kind, rate in kinds.items())
        if kinds:
            print(f"{row.label}: {', '.join(words)}")
    if arguments.csv:
        arguments.csv.parent.mkdir(parents=True, exist_ok=True)
        arguments.csv.write_text(_csv(rows))


def _cells(row: Reliability) -> list[str]:
    """Return the cells of a row of the table: percent, but for the temperature."""
    cells = []
    for name in SHOWN:
        spread = row.measures[name]
        shown = (
            Spread({seed: value / 100 for seed, value in spread.by_seed.items()}) if name == "temperature" else spread
        )
        cells.append(plus_minus(shown, 2 if name == "temperature" else 1))
    return [*cells, *(plus_minus(row.measures[name], 1) if row.changes else "–" for name in CHANGES)]


def _csv(rows: list[Reliability]) -> str:
    """Return a row for each model and seed with all measures, as shares 0-1."""
    found = [
        {"model": row.label, "seed": seed, **{name: spread.by_seed[seed] for name, spread in row.measures.items()}}
        for row in rows
        for seed in row.answers
    ]
    return csv_text(["model", "seed", *MEASURES, *CHANGES], found)


if __name__ == "__main__":
    main()
