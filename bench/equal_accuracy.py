"""Print, for a run, what its exported tickets gain over the dense model in int8 at equal accuracy, as Markdown.

    python bench/equal_accuracy.py RUN [--retain 0.99] [--formats engine,openvino] [--measure] [--json]

--formats exports the pick and its twins in more formats, and --measure measures all files of the run in one bench.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import lxcompress as lx
from lxcompress.analysis.equal_accuracy import compare_at_equal_accuracy
from lxcompress.analysis.equal_accuracy_words import (
    COLUMNS,
    equal_accuracy_json,
    equal_accuracy_rows,
    equal_accuracy_sentence,
)
from lxcompress.analysis.rule import Rule, default_rule
from lxcompress.analysis.summary import summarise
from lxcompress.catalog.runtimes import list_serving
from lxcompress.errors import LxError, RunError
from lxcompress.output import json_text
from lxcompress.report.markdown import escape, table
from lxcompress.workflow.twins import TwinSources, check_twins, export_twins


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="the run folder of a study")
    parser.add_argument("--retain", type=float, help="share of the dense accuracy to keep; by default the recipe's")
    parser.add_argument("--formats", default="", help="formats to export the pick and its twins in, such as engine,ort")
    parser.add_argument("--measure", action="store_true", help="measure all files that run here, in one bench")
    parser.add_argument("--json", action="store_true", help="print JSON")
    options = parser.parse_args()
    try:
        export(options.run, [name for name in options.formats.split(",") if name])
        if options.measure:
            measure(options.run)
        show(options.run, options.retain, as_json=options.json)
    except LxError as error:
        sys.exit(str(error))


def export(run: Path, formats: list[str]) -> None:
    """Export the picked ticket and its twins in more formats."""
    picked = lx.pick(run).picked if formats else None
    if formats and picked is None:
        raise RunError(f"{run}: nothing is picked, so there is nothing to export; lxcompress pick says why")
    if picked is not None:
        check_twins(export_twins(TwinSources(picked.ticket), formats=formats))


def measure(run: Path) -> None:
    """Measure all artifacts of a run that a runtime serves, in one bench, in the default runtimes of their formats."""
    found = [exported.folder for exported in summarise(lx.read_run(run)).artifacts if serves(exported.artifact.format)]
    lx.bench(found)


def serves(format: str) -> bool:
    """Return whether a runtime serves files of this format."""
    return bool(list_serving(format))


def show(run: Path, retain: float | None, *, as_json: bool) -> None:
    """Print the sentence and the table of all files."""
    summary = summarise(lx.read_run(run))
    found = compare_at_equal_accuracy(summary, default_rule(summary) if retain is None else Rule(retain=retain))
    if found is None:
        raise RunError(f"{run}: has no finished dense run, or no tickets, so there is nothing to compare")
    if as_json:
        print(json_text(equal_accuracy_json(found)))
        return
    print(f"**{escape(equal_accuracy_sentence(found))}**\n")
    print(table(COLUMNS, [[escape(cell) for cell in row] for row in equal_accuracy_rows(found)], first_texts=1))
    if found.command:
        print(f"\nnext: `{found.command}`")


if __name__ == "__main__":
    main()
