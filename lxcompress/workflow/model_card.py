"""Write the model card of a ticket or an exported file: a README.md with a YAML head, as the Hugging Face hub reads it.

Every number is from a record, or counted in the file itself. What no record says is listed as not measured.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lxcompress.errors import LxError
from lxcompress.filenames import ARTIFACT_FILE, RESULT_FILE, TICKET_FILE
from lxcompress.output import command_line

if TYPE_CHECKING:
    from lxcompress.analysis.groups import SeedGroup, Stage
    from lxcompress.recipe import Recipe
    from lxcompress.records import Artifact, Provenance, Score

PERCENT = 100
HUB = "hub:"


@dataclass(frozen=True)
class CardFacts:
    """The facts of a model card, read from the records of a folder. A value that no record has is None.

    `accuracy` and `test` are the scores of this file. `group` has the runs of its method over seeds, and `dense` the
    dense runs. `floor` is the best baseline that reads no image: its name and its accuracy. `zeros` of `elements` are
    the zeros in the prunable matrices, counted in the file.
    """

    folder: Path
    kind: str
    cell: str | None
    seed: int | None
    format: str
    precision: str | None
    accuracy: Score | None
    test: Score | None
    zeros: int
    elements: int
    loads_in: str | None
    unproven: str | None = None
    recipe: Recipe | None = None
    group: SeedGroup | None = None
    dense: Stage | None = None
    floor: tuple[str, float] | None = None

    @property
    def sparsity(self) -> float:
        """Return the share of zeros in the prunable matrices of the file, 0-1."""
        return self.zeros / self.elements if self.elements else 0.0

    @property
    def base_model(self) -> str | None:
        """Return the start model: OWNER/NAME of the hub, or `mini`; None for a folder, whose name says nothing."""
        start = self.recipe.model.start if self.recipe else ""
        if start.startswith(HUB):
            return start.removeprefix(HUB)
        return start if start == "mini" else None


def read_card_facts(folder: Path) -> CardFacts:
    """Return the facts about the ticket or the exported file in `folder`. Raises LxError for any other folder."""
    from lxcompress.rundir import find_run

    if (folder / ARTIFACT_FILE).is_file():
        facts = _read_artifact(folder)
    elif (folder / TICKET_FILE).is_file():
        facts = _read_ticket(folder)
    else:
        raise LxError(
            f"{folder}: is neither a ticket ({TICKET_FILE}) nor an exported file ({ARTIFACT_FILE}); give "
            "RUN/tickets/NAME or RUN/artifacts/NAME"
        )
    run = find_run(folder)
    return facts if run is None else _add_study(facts, run.root)


def compose_card(facts: CardFacts, repo: str, licence: str | None) -> str:
    """Return the text of README.md for the repository OWNER/NAME."""
    parts = [
        f"---\n{_compose_head(facts, repo, licence)}\n---\n",
        f"# {repo.rpartition('/')[2]}\n",
        _say_what(facts) + "\n",
        f"## How to load\n\n{_say_loading(facts, repo)}\n",
        f"## Accuracy\n\n{_say_accuracy(facts)}\n",
        f"## Sparsity\n\n{_say_sparsity(facts)}\n",
        "## Not measured\n\n" + "\n".join(f"- {line}" for line in _list_unmeasured(facts)) + "\n",
        f"## Licence\n\n{_say_licence(facts, licence)}\n",
    ]
    return "\n".join(parts)


def _read_ticket(folder: Path) -> CardFacts:
    """Return the facts in the record of a ticket; its files are compared with their checksums first."""
    from lxcompress.checksums import read_checked_provenance
    from lxcompress.exporters.formats import load_writer
    from lxcompress.models.checkpoints import identify
    from lxcompress.records import Result, read_record

    provenance: Provenance = read_checked_provenance(folder)
    zeros, elements = load_writer("transformers").count_zeros(folder)
    _, family = identify(str(folder))
    result = read_record(folder / RESULT_FILE, Result) if (folder / RESULT_FILE).is_file() else None
    retraining = provenance.retraining
    return CardFacts(
        folder=folder,
        kind="ticket",
        cell=provenance.cell,
        seed=provenance.seed,
        format="safetensors",
        precision="fp32",
        accuracy=provenance.accuracy or (retraining.retrained if retraining else None),
        test=result.test if result else None,
        zeros=zeros,
        elements=elements,
        loads_in=None if provenance.surgery_sha256 else family.answering[0],
    )


def _read_artifact(folder: Path) -> CardFacts:
    """Return the facts in the record of an exported file; its files are compared with their checksums first."""
    from lxcompress.checksums import check_folder
    from lxcompress.exporters.formats import load_writer
    from lxcompress.models.checkpoints import identify
    from lxcompress.records import Artifact, read_record

    check_folder(folder)
    record: Artifact = read_record(folder / ARTIFACT_FILE, Artifact)
    zeros, elements = load_writer(record.format).count_zeros(folder)
    is_transformers = record.format == "transformers"
    return CardFacts(
        folder=folder,
        kind=f"{record.format} file",
        cell=record.cell,
        seed=record.seed,
        format=record.format,
        precision=record.precision,
        accuracy=record.accuracy,
        test=record.test,
        zeros=zeros,
        elements=elements,
        loads_in=identify(str(folder))[1].answering[0] if is_transformers else None,
        unproven=record.unproven,
    )


def _add_study(facts: CardFacts, root: Path) -> CardFacts:
    """Return the facts with the recipe of the study, the runs of the same method over seeds, and the dense runs."""
    from dataclasses import replace

    from lxcompress.analysis.floors import highest_floor
    from lxcompress.analysis.summary import summarise
    from lxcompress.rundir import read_run

    summary = summarise(read_run(root))
    groups = (*summary.groups, *summary.twins)
    group = next(
        (group for group in groups if facts.cell in {group.key.cell(seed).id for seed in group.seeds}),
        None,
    )
    floor = highest_floor(summary.floors) if summary.floors else None
    return replace(facts, recipe=summary.recipe, group=group, dense=summary.dense, floor=floor)


def _compose_head(facts: CardFacts, repo: str, licence: str | None) -> str:
    """Return the YAML head, with the evaluation results as a model-index."""
    from huggingface_hub import EvalResult, ModelCardData

    task = _find_task(facts)
    kind = _data_kind(facts)
    scores = [
        EvalResult(
            task_type=task,
            dataset_type=kind,
            dataset_name=kind,
            dataset_split=split,
            metric_type="accuracy",
            metric_name=name,
            metric_value=round(PERCENT * value, 2),
        )
        for split, name, value in _list_metrics(facts)
    ]
    base = facts.base_model
    head = ModelCardData(
        model_name=repo.rpartition("/")[2],
        library_name="lxcompress",
        pipeline_tag=task,
        base_model=base if base and "/" in base else None,
        license=licence,
        tags=["lxcompress", "pruning", "sparsity", "lottery-ticket", facts.format],
        eval_results=scores or None,
    )
    return head.to_yaml()


def _list_metrics(facts: CardFacts) -> list[tuple[str, str, float]]:
    """Return (split, name, value 0-1) of the accuracies of this file, and of the mean over seeds."""
    metrics = _list_own_metrics(facts)
    if facts.group and len(facts.group.seeds) > 1:
        spread = facts.group.retrained.overall
        metrics.append(("validation", f"accuracy, mean of seeds {_join(facts.group.seeds)}", spread.mean))
    return metrics


def _list_own_metrics(facts: CardFacts) -> list[tuple[str, str, float]]:
    """Return (split, name, value 0-1) of the accuracies of this file."""
    metrics = []
    if facts.accuracy:
        metrics.append(("validation", f"accuracy of this file{_say_seed(facts)}", facts.accuracy.accuracy))
    if facts.test:
        metrics.append(("test", f"accuracy of this file{_say_seed(facts)}", facts.test.accuracy))
    return metrics


def _say_what(facts: CardFacts) -> str:
    """Return the first paragraph: what the files are, and what they were made of."""
    what = f"A pruned model: {facts.kind}"
    if facts.precision:
        what += f" in {facts.precision}"
    if facts.group:
        what += f", {facts.group.key.label}{_say_seed(facts)}"
    source = f", drawn from `{facts.base_model}`" if facts.base_model else ""
    data = f", and trained on the data set `{_data_kind(facts)}`" if facts.recipe else ""
    return f"{what}{source}{data}. Made with [lxcompress](https://pypi.org/project/lxcompress/)."


def _say_loading(facts: CardFacts, repo: str) -> str:
    """Return the commands and the code that load the files."""
    lines = []
    if facts.kind == "ticket" or facts.format in ("bitmask", "transformers"):
        source = f"{HUB}{repo}"
        commands = [
            command_line("eval", source, "RECIPE"),
            command_line("export", source, "--format", "onnx", "--out", "FOLDER"),
        ]
        lines.append("\n".join(["```sh", *commands, "```"]))
    else:
        lines.append(f"```sh\nhf download {repo} --local-dir FOLDER\nlxcompress bench FOLDER\n```")
    if facts.loads_in:
        lines.append(
            f"```python\nfrom transformers import {facts.loads_in}\n\n"
            f'model = {facts.loads_in}.from_pretrained("{repo}")\n```'
        )
    return "\n\n".join(lines)


def _say_accuracy(facts: CardFacts) -> str:
    """Return a table of the accuracies, with their seeds and intervals."""
    from lxcompress.stats import mean_interval

    rows = [(f"{name}, {split}", f"{PERCENT * value:.2f}", "") for split, name, value in _list_own_metrics(facts)]
    stages = {"dense model": facts.dense, "this method": facts.group.retrained if facts.group else None}
    for name, stage in stages.items():
        if stage is not None:
            by_seed = stage.overall.by_seed
            interval = mean_interval(list(by_seed.values()))
            reach = f"{PERCENT * interval[0]:.2f} to {PERCENT * interval[1]:.2f}" if interval else "one seed: none"
            rows.append(
                (f"{name}, mean of seeds {_join(by_seed)}, validation", f"{PERCENT * stage.overall.mean:.2f}", reach)
            )
    if facts.floor is not None:
        rows.append((f"floor: {facts.floor[0]}", f"{PERCENT * facts.floor[1]:.2f}", ""))
    if not rows:
        return "No accuracy is recorded."
    table = "\n".join(f"| {name} | {value} | {reach} |" for name, value, reach in rows)
    return f"| | accuracy % | 95 % interval over seeds |\n|---|---|---|\n{table}"


def _say_sparsity(facts: CardFacts) -> str:
    """Return how many zeros the file has."""
    return (
        f"{facts.zeros:,} of {facts.elements:,} weights of the prunable matrices are zero in the file itself: "
        f"{PERCENT * facts.sparsity:.2f} %. Embeddings and the output layer are not prunable."
    )


def _list_unmeasured(facts: CardFacts) -> list[str]:
    """Return what the records do not say, one sentence for each."""
    lines = []
    if facts.accuracy is None:
        lines.append("The accuracy of this file.")
    if facts.test is None:
        lines.append("The accuracy on a test split. What was picked by validation accuracy looks better there.")
    if facts.group is None or len(facts.group.seeds) < 2:
        lines.append("The spread over seeds.")
    if facts.unproven:
        lines.append(f"Whether the file gives the answers of its source: {facts.unproven}.")
    lines.append("Speed and memory on your device: `lxcompress bench` measures them there.")
    lines.append("Other data sets, other languages, and errors that concern some people more than others.")
    return lines


def _say_licence(facts: CardFacts, licence: str | None) -> str:
    """Return a sentence about the licence."""
    if licence:
        return f"`{licence}`, as the person who uploaded the files stated. The licence of the base model holds too."
    base = f" (`{facts.base_model}`)" if facts.base_model else ""
    return f"Not stated. The weights derive from the base model{base}, and its licence holds."


def _find_task(facts: CardFacts) -> str:
    """Return the hub's name of the task."""
    columns = getattr(facts.recipe.data, "columns", None) if facts.recipe else None
    if columns is not None and columns.image is None:
        return "text-classification"
    if columns is not None and columns.text is None:
        return "image-classification"
    return "visual-question-answering"


def _data_kind(facts: CardFacts) -> str:
    """Return the kind of the data set."""
    return facts.recipe.data.kind if facts.recipe else "unknown"


def _say_seed(facts: CardFacts) -> str:
    return "" if facts.seed is None else f" (seed {facts.seed})"


def _join(seeds: Sequence[int] | Mapping[int, Any]) -> str:
    return ", ".join(map(str, seeds))
