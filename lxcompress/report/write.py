"""Write the three files of the report into the run folder."""

from __future__ import annotations

from pathlib import Path

from lxcompress.analysis.choice import Choice
from lxcompress.analysis.pick import pick_ticket
from lxcompress.analysis.rule import Rule, default_rule
from lxcompress.analysis.summary import RunSummary, summarise
from lxcompress.report.html import render_html
from lxcompress.report.tables import results_csv, results_json
from lxcompress.rundir import Run, RunDir, write_text


def write_report(run: Run, rule: Rule | None = None) -> list[Path]:
    """Write report.html, results.csv and results.json of `run`; return their paths.

    Without `rule`, the ticket is picked by the rule of the recipe.
    """
    summary = summarise(run)
    return write_files(summary, pick_ticket(summary, rule or default_rule(summary)))


def write_files(summary: RunSummary, choice: Choice) -> list[Path]:
    """Write the files of the report from what was found; a file is replaced only when its new text is complete."""
    run = RunDir(summary.root)
    texts = {
        run.report: render_html(summary, choice),
        run.results_csv: results_csv(summary),
        run.results_json: results_json(summary, choice),
    }
    for path, text in texts.items():
        write_text(path, text)
    return list(texts)
