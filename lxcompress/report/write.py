"""Write the three files of the report into the run folder."""

from __future__ import annotations

from pathlib import Path

from lxcompress.analysis.pick import pick_ticket
from lxcompress.analysis.rule import Rule, default_rule
from lxcompress.analysis.summary import summarise
from lxcompress.report.html import render_html
from lxcompress.report.tables import results_csv, results_json
from lxcompress.rundir import Run, write_text


def write_report(run: Run, rule: Rule | None = None) -> list[Path]:
    """Write report.html, results.csv and results.json of `run`; return their paths.

    Without `rule`, the ticket is picked by the rule of the recipe. A file is replaced only when its new text is
    complete.
    """
    summary = summarise(run)
    choice = pick_ticket(summary, rule or default_rule(summary))
    texts = {
        run.dir.report: render_html(summary, choice),
        run.dir.results_csv: results_csv(summary),
        run.dir.results_json: results_json(summary, choice),
    }
    for path, text in texts.items():
        write_text(path, text)
    return list(texts)
