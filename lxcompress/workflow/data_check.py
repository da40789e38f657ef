"""Check the data of a recipe, or a store of region features, and add a remedy to each problem."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lxcompress.progress import no_progress

if TYPE_CHECKING:
    from lxcompress.data.check import CheckReport, Finding
    from lxcompress.progress import Progress
    from lxcompress.recipe import Recipe


def check_store(path: Path, *, is_fast: bool = False, progress: Progress = no_progress) -> CheckReport:
    """Return the facts and problems of the store of region features in the folder `path`.

    `is_fast` skips the values and the checksum of the features.
    """
    from lxcompress.data import check

    return check.check_store(path, is_fast=is_fast, progress=progress)


def check_recipe(recipe: Recipe, *, is_fast: bool = False, progress: Progress = no_progress) -> CheckReport:
    """Return the facts and problems of the data of `recipe`, compared with its start model.

    A problem of the start model is a finding too. `is_fast` skips the values and the checksum of the features.
    """
    from lxcompress.data.check import as_finding, check_data
    from lxcompress.errors import LxError
    from lxcompress.models.answers import read_answers
    from lxcompress.models.shape import describe_start
    from lxcompress.models.start import resolve_start
    from lxcompress.models.vocabulary import load_vocabulary
    from lxcompress.study.agreement import find_vocabulary

    start, data = resolve_start(recipe.model.start), recipe.data
    readers: dict[str, Callable[[], Any]] = {
        "vocabulary": lambda: load_vocabulary(start, find_vocabulary(recipe)),
        "model": lambda: describe_start(
            f"model.start={recipe.model.start}",
            start,
            find_vocabulary(recipe),
            draws_feature_layer=recipe.model.draw_feature_layer,
        ),
        "answers": lambda: recipe.model.pretrained_answers and read_answers(recipe.model.pretrained_answers),
    }
    read: dict[str, Any] = {}
    problems: list[Finding] = []
    for name, reader in readers.items():
        progress(f"reading {recipe.model.start}", 0, 0)
        try:
            read[name] = reader()
        except LxError as error:
            problems.append(as_finding(error))
    check = check_data(data, read.get("vocabulary"), model=read.get("model"), is_fast=is_fast, progress=progress)
    findings = dict.fromkeys((*problems, *check.findings))
    return replace(check, findings=tuple(add_remedy(finding) for finding in findings))


def add_remedy(finding: Finding) -> Finding:
    """Return the finding of a missing file with the command that downloads or prepares the file, if one is known.

    Any other finding is returned unchanged.
    """
    from lxcompress.data.catalogue import CATALOGUE
    from lxcompress.workflow.cards import shipped_cards

    path = Path(finding.where)
    if finding.severity != "error" or path.exists():
        return finding
    folder = path.parent.name if path.suffix else path.name
    by_file = [name for name, group in CATALOGUE.items() if path.name in {file.name for file in group.files}]
    names = [folder] if folder in CATALOGUE else by_file
    if names:
        return replace(finding, sentence=f"no such file; fetch it with: lxcompress data fetch {names[0]}")
    commands = [command for card in shipped_cards() for command in card.commands]
    end = f" --out {path.as_posix()}"
    prepare = next(
        (command for command in commands if command.startswith("lxcompress data prepare") and command.endswith(end)),
        None,
    )
    if prepare is None:
        is_raw = "[Errno" in finding.sentence
        return replace(finding, sentence="no such file; correct its path in the recipe") if is_raw else finding
    sources = dict.fromkeys(
        word.split("/")[1] for word in prepare.split() if word.startswith("data/") and word.count("/") == 2
    )
    fetch = f"lxcompress data fetch {' '.join(sources)}"
    return replace(finding, sentence=f"no such store; make it with: {fetch} && {prepare}")
