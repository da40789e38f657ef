"""Write the report as one HTML file that needs no network and no script, for phones as well as projectors."""

from __future__ import annotations

from dataclasses import fields, replace
from functools import cache, partial
from importlib import resources

from jinja2 import Environment, StrictUndefined, Template
from markupsafe import Markup, escape

from lxcompress import __version__
from lxcompress.analysis.choice import Choice
from lxcompress.analysis.methods import shown_methods
from lxcompress.analysis.protocol import has_tickets
from lxcompress.analysis.published import SOURCE
from lxcompress.analysis.summary import RunSummary
from lxcompress.analysis.words import numbered, plus_minus, points
from lxcompress.output import printable_lines
from lxcompress.report.costs import cost_section
from lxcompress.report.curves import ChartedStudy, hero_section, level_legend, method_legend, stage_panels, type_section
from lxcompress.report.devices import device_tables
from lxcompress.report.kept import kept_section
from lxcompress.report.page import Page
from lxcompress.report.reliability import reliability_section
from lxcompress.report.resources import resource_section
from lxcompress.report.sections import group_section, header, method_section, run_section
from lxcompress.units import percent


def render_html(summary: RunSummary, choice: Choice) -> str:
    """Return the report as one HTML text."""
    page = build_page(summary, choice)
    sections = {field.name: getattr(page, field.name) for field in fields(page)}
    return printable_lines(_template().render(**sections, published_source=SOURCE))


@cache
def _template() -> Template:
    """Return the template of the page, compiled once."""
    text = resources.files("lxcompress.report").joinpath("template.html").read_text(encoding="utf-8")
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters.update(
        percent=percent,
        plus_minus=plus_minus,
        points=points,
        numbered=partial(numbered, "seed"),
        unbroken=_unbroken,
    )
    return environment.from_string(text)


def build_page(summary: RunSummary, choice: Choice) -> Page:
    """Return the content of the page. A run whose retrained models are dense again gets a page without a pick."""
    if not has_tickets(summary.recipe):
        choice = replace(choice, picked=None, threshold=None, warnings=summary.warnings, held_out=())
    picked = choice.picked.group.key if choice.picked else None
    study = ChartedStudy(summary, choice, shown_methods(summary, picked))
    return Page(
        version=__version__,
        header=header(summary, choice),
        method_keys=method_legend(study),
        level_keys=level_legend(study) if study.has_curves else [],
        hero=hero_section(study) if study.has_curves else None,
        costs=cost_section(summary, choice),
        devices=device_tables(summary),
        methods=method_section(summary, picked) if summary.groups else None,
        stages=stage_panels(study) if study.has_curves else [],
        types=type_section(study) if study.has_curves else None,
        groups=group_section(summary, choice, study.slots),
        reliability=reliability_section(summary, study.slots, picked.target if picked else None)
        if summary.dense_runs
        else None,
        kept=kept_section(summary, study.slots, picked.target if picked else None),
        resources=resource_section(summary, summary.usage) if summary.usage else None,
        run=run_section(summary),
    )


def _unbroken(words: str) -> Markup:
    """Return text in which no line break can come between a number and its percent sign."""
    return escape(words).replace(" %", Markup("&nbsp;%"))
