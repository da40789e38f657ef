"""Write a summary as results.csv (a row for each run and each artifact) and results.json (everything)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from lxcompress.analysis.artifact_costs import (
    COST_AXES,
    CostEntry,
    find_dense,
    find_front,
    find_missing_baselines,
    number_artifacts,
    ratio,
)
from lxcompress.analysis.artifacts import latency_ms
from lxcompress.analysis.choice import Choice
from lxcompress.analysis.choice_json import choice_json, spread_json
from lxcompress.analysis.groups import SeedGroup, Stage
from lxcompress.analysis.methods import tabulate
from lxcompress.analysis.protocol import protocol_name
from lxcompress.analysis.published import SOURCE, PublishedGroup, compare
from lxcompress.analysis.reliability import reliability_json
from lxcompress.analysis.summary import RunSummary
from lxcompress.analysis.usage import usage_json
from lxcompress.output import csv_text, json_text
from lxcompress.records import Dense, Measurement, Result, Score, Usage

COLUMNS: dict[str, str] = {
    "kind": "dense (one unpruned run per seed), cell (one pruned, rewound and retrained model) or artifact (an "
    "exported file)",
    "cell": "the id of the run, which is its folder under tickets/; dense for a dense run; for an artifact, its source",
    "method": "the name of the pruning method; its settings are in the recipe",
    "control": "what the method controls for; such a method is never shipped; empty for a ticket",
    "criterion": "which weights were kept",
    "granularity": "what was removed as a unit; weight removes single weights",
    "protocol": "corrected, published (with all faults of the published study), or the faults that were reproduced",
    "scope": "the weights that were ranked together: layer ranks each matrix alone, global all of them",
    "seed": "the seed of the start weights and of the training order",
    "target_sparsity": "the share of prunable weights that the recipe asked to remove",
    "achieved_sparsity": "the share of prunable weights that was removed",
    "sparsity_of_live": "the share removed of all weights that the answer depends on",
    "sparsity_of_all": "the share removed of all weights",
    "kept_language": "share of the prunable weights of the language part that is kept, 0-1",
    "kept_vision": "share of the prunable weights of the vision part that is kept, 0-1",
    "kept_cross": "share of the prunable weights of the cross-modal part that is kept, 0-1",
    "kept_head": "share of the prunable weights of the answer head that is kept, 0-1",
    "parameters": "weights of the model that answers, including the zeros of a mask",
    "flops": "floating-point operations for one question of usual length, if zeros are multiplied too",
    "regrown": "removed weights that are not zero after retraining; only the fault mask-applied-once leaves any",
    "start": "accuracy of the start weights, before any training on the task",
    "pruned": "accuracy straight after pruning the dense model",
    "rewound": "accuracy after the kept weights were set back to their start",
    "retrained": "accuracy after retraining: the ticket's",
    "test_accuracy": "accuracy after training on the test split; nothing is picked by it, all others are of validation",
    "dense": "accuracy of the dense run of the same seed",
    "difference": "retrained minus dense of the same seed",
    "questions": "the number of validation questions that the accuracies are averaged over",
    "epochs": "epochs of the training or retraining",
    "steps": "optimizer steps of all training that the row needed; the dense run of a ticket is a row of its own",
    "duration_s": "seconds that the row took; with the fault one-dense-run, every dense row repeats the one run",
    "drawing_s": "the part of these seconds that drawing the ticket took: statistics and selection",
    "device": "the device that it ran on",
    "precision": "the arithmetic that it ran in; for an artifact, the precision of its file",
    "usage_peak_bytes": "most bytes of GPU memory that were held at once",
    "usage_utilisation": "share of the time in which some kernel ran on the GPU, 0-1",
    "usage_energy_j": "joules that the GPU used",
    "artifact": "the exported file's name, which is its folder under artifacts/; the columns from here on are "
    "filled for artifacts only",
    "stands_for": "what the file is: dense, ticket or structured, with its precision unless that is fp32",
    "format": "the format of the export",
    "exported": "accuracy of the exported file",
    "export_change": "that minus the accuracy of its source model, on the same questions",
    "size_bytes": "bytes on disk",
    "runtime": "the runtime that measured it, at the default task: the recipe's threads, lengths as the data's",
    "threads": "the number of threads of that measurement",
    "latency_p50_ms": "median latency of one answer",
    "latency_p90_ms": "90th percentile of the latency of one answer",
    "latency_p99_ms": "99th percentile of the latency of one answer",
    "load_s": "seconds to load a file that is in the page cache",
    "cold_load_s": "seconds to load a file that is not in the page cache",
    "peak_bytes": "most memory that the measured process ever held",
    "steady_bytes": "memory that it held between answers",
    "energy_j": "joules that the processor used for one answer",
}
"""Column of results.csv -> its meaning. Accuracies and sparsities are fractions (0-1); an empty field is unknown."""
TYPE_COLUMNS = "accuracy at a stage (pruned, rewound, retrained, dense) over the questions of one answer type"


def results_csv(summary: RunSummary) -> str:
    """Return the text of results.csv: a row for each dense run, each finished cell and each artifact.

    A cell is the run of one method, one sparsity and one seed. The columns are COLUMNS, and one for each stage and
    answer type.
    """
    dense = {run.seed: run for run in summary.dense_runs}
    rows = [*map(_dense_row, summary.dense_runs)]
    rows += [_cell_row(result, dense.get(result.seed)) for result in summary.results]
    rows += [_artifact_row(entry) for entry in number_artifacts(summary)]
    rows = [{**row, "protocol": protocol_name(summary.recipe)} for row in rows]
    types = {column: None for row in rows for column in row if column not in COLUMNS}
    return csv_text([*_columns(summary), *types], rows)


def results_json(summary: RunSummary, choice: Choice) -> str:
    """Return the text of results.json: the summary, the choice, and every record that they were made from."""
    entries = number_artifacts(summary, choice.picked.exported if choice.picked else None)
    comparison = compare(summary)
    published = comparison.groups if comparison else {}
    tree = {
        "version": 1,
        "name": summary.recipe.name,
        "protocol": protocol_name(summary.recipe),
        "faults": list(summary.recipe.faults),
        "complete": summary.is_complete,
        "cells": {"finished": len(summary.results), "total": summary.cells_total},
        "summary": {
            "dense": _stage_json(summary.dense) if summary.dense else None,
            "groups": [_group_json(group, published.get(group.key)) for group in summary.groups],
            "methods": methods_json(summary),
            "unstarted": [key.label for key in summary.unstarted],
            "costs": [_cost_json(entry, entries) for entry in entries],
            "lacking_twins": [asdict(missing) for missing in find_missing_baselines(summary, entries)],
            "doubts": list(summary.warnings),
            "taken": usage_json(summary.usage) if summary.usage else None,
        },
        "published": {"source": SOURCE, "dense": comparison.dense, "doubt": comparison.warning} if comparison else None,
        "pick": choice_json(choice),
        "reliability": reliability_json(summary),
        "floors": summary.floors.model_dump(mode="json") if summary.floors else None,
        "dense_runs": [run.model_dump(mode="json") for run in summary.dense_runs],
        "results": [result.model_dump(mode="json") for result in summary.results],
        "machine": summary.machine.model_dump(mode="json"),
        "recipe": summary.recipe.model_dump(mode="json"),
        "csv_columns": {**_columns(summary), "STAGE_TYPE": TYPE_COLUMNS},
    }
    return json_text(tree) + "\n"


def _columns(summary: RunSummary) -> dict[str, str]:
    """Return {column: meaning} of COLUMNS, without the test accuracy if the study has no test split."""
    runs: list[Dense | Result] = [*summary.dense_runs, *summary.results]
    has_test = any(run.test for run in runs)
    return {name: meaning for name, meaning in COLUMNS.items() if has_test or name != "test_accuracy"}


def _dense_row(dense: Dense) -> dict[str, Any]:
    """Return the row of a dense run."""
    return {
        "kind": "dense",
        "cell": "dense",
        "seed": dense.seed,
        "start": dense.start.accuracy,
        "dense": dense.trained.accuracy,
        **_test_column(dense),
        "questions": dense.trained.questions,
        **_run_columns(dense),
        **_type_columns({"dense": dense.trained}),
    }


def _cell_row(result: Result, dense: Dense | None) -> dict[str, Any]:
    """Return the row of a cell; `dense` is the dense run of the same seed, if it is finished."""
    stages = {"pruned": result.pruned, "rewound": result.rewound, "retrained": result.retrained}
    if dense is not None:
        stages["dense"] = dense.trained
    accuracies = {stage: score.accuracy for stage, score in stages.items()}
    return {
        "kind": "cell",
        "cell": result.cell,
        "method": result.method.get("id", f"{result.criterion}-{result.granularity}"),
        "control": result.method.get("control"),
        "criterion": result.criterion,
        "granularity": result.granularity,
        "scope": result.scope,
        "seed": result.seed,
        "target_sparsity": result.target,
        "achieved_sparsity": result.sparsity.achieved,
        "sparsity_of_live": result.sparsity.of_live,
        "sparsity_of_all": result.sparsity.of_all,
        **{f"kept_{part}": share for part, share in result.kept_by_modality.items()},
        "parameters": result.parameters,
        "flops": result.flops,
        "drawing_s": result.drawing_s,
        "regrown": result.regrown,
        **accuracies,
        **_test_column(result),
        "difference": result.retrained.accuracy - dense.trained.accuracy if dense else None,
        "questions": result.retrained.questions,
        **_run_columns(result),
        **_type_columns(stages),
    }


def _test_column(record: Dense | Result) -> dict[str, float]:
    """Return the column of the test accuracy; none without a test split."""
    return {"test_accuracy": record.test.accuracy} if record.test else {}


def _run_columns(record: Dense | Result) -> dict[str, Any]:
    """Return the columns that dense runs and cells share: training, time, device and resources."""
    return {
        "epochs": len(record.epochs),
        "steps": record.steps,
        "duration_s": record.duration_s,
        "device": record.device,
        "precision": record.precision,
        **_usage_columns(record.usage),
    }


def _usage_columns(usage: Usage | None) -> dict[str, Any]:
    """Return the columns of the resources that a GPU counted; none if no GPU counted them."""
    if usage is None:
        return {}
    return {f"usage_{name}": getattr(usage, name) for name in ("peak_bytes", "utilisation", "energy_j")}


def _type_columns(stages: Mapping[str, Score]) -> dict[str, float]:
    """Return {STAGE_TYPE: accuracy} for each stage and answer type."""
    return {f"{stage}_{name}": value for stage, score in stages.items() for name, value in score.by_type.items()}


def _group_json(group: SeedGroup, published: PublishedGroup | None) -> dict[str, Any]:
    """Return a group over seeds as plain JSON values, with the published result of the same method and sparsity."""
    return {
        "method": group.key.method.id,
        "criterion": group.key.method.criterion,
        "granularity": group.key.method.granularity,
        "control": group.key.method.control,
        "target": group.key.target,
        "complete": group.is_complete,
        "missing_seeds": list(group.missing),
        "achieved": spread_json(group.achieved),
        "of_live": group.of_live,
        "of_all": group.of_all,
        "removed": group.removed,
        "regrown": spread_json(group.regrown),
        "pruned": _stage_json(group.pruned),
        "rewound": _stage_json(group.rewound),
        "retrained": _stage_json(group.retrained),
        "paired_difference": spread_json(group.paired),
        "retained": group.retained,
        "ratios": spread_json(group.ratios),
        "parameters": group.parameters,
        "flops": group.flops,
        "cell_s": group.cell_s,
        "steps_of_dense": group.steps,
        "taken": usage_json(group.usage),
        "published": _published_json(group, published) if published else None,
    }


def methods_json(summary: RunSummary) -> list[dict[str, Any]]:
    """Return the rows of the methods table as plain JSON values."""
    table = tabulate(summary)
    return [
        {
            "method": row.method.id,
            "kind": row.kind,
            "settings": row.method.model_dump(mode="json", exclude_defaults=True),
            "cell_s": row.cell_s,
            "steps_of_dense": list(row.steps) if row.steps else None,
            "kept": [
                {
                    "target": target,
                    "achieved": group.achieved.mean,
                    "retained": group.retained,
                    "ratios": spread_json(group.ratios),
                    "best": group.key in table.best,
                }
                for target, group in row.groups.items()
            ],
        }
        for row in table.rows
    ]


def _published_json(group: SeedGroup, published: PublishedGroup) -> dict[str, Any]:
    """Return the published result for a group, and the difference from it, as plain JSON values."""
    return {
        "mean": published.mean,
        "std": published.std,
        "runs": published.runs,
        "removed": published.removed,
        "difference": group.retrained.overall.mean - published.mean,
    }


def _stage_json(stage: Stage) -> dict[str, Any]:
    """Return the accuracies at one stage as plain JSON values."""
    by_type = {name: spread_json(spread) for name, spread in stage.by_type.items()}
    return {**(spread_json(stage.overall) or {}), "by_type": by_type}


def _artifact_row(entry: CostEntry) -> dict[str, Any]:
    """Return the row of an artifact."""
    artifact, measured = entry.exported.artifact, entry.exported.fresh
    return {
        "kind": "artifact",
        "cell": artifact.cell or "dense",
        "artifact": artifact.name,
        "stands_for": entry.role,
        "format": artifact.format,
        "precision": artifact.precision,
        "size_bytes": artifact.size_bytes,
        "exported": entry.accuracy,
        "export_change": entry.exported.accuracy_change,
        "questions": artifact.accuracy.questions if artifact.accuracy else None,
        "parameters": artifact.parameters,
        "flops": artifact.flops,
        **({"runtime": measured.task.runtime, "threads": measured.task.threads} if measured else {}),
        **(_measured_json(measured) if measured else {}),
    }


def _cost_json(entry: CostEntry, entries: Sequence[CostEntry]) -> dict[str, Any]:
    """Return an artifact, its measurement and its ratios to the dense artifact as plain JSON values."""
    exported, dense = entry.exported, find_dense(entries)
    measured = exported.measurement
    return {
        "number": entry.number,
        "stands_for": entry.role,
        "picked": entry.is_picked,
        "artifact": exported.artifact.model_dump(mode="json"),
        "folder": exported.folder.as_posix(),
        "sha256": exported.sha256,
        "accuracy_change": exported.accuracy_change,
        **(_measured_json(measured) if measured else dict.fromkeys(MEASURED)),
        "ratio_to": dense.exported.name if dense else None,
        "ratios": {axis.title: ratio(entry, dense, axis) for axis in COST_AXES},
        "on_front": [axis.title for axis in COST_AXES if entry in find_front(entries, axis)],
        "measurement": measured.model_dump(mode="json") if measured else None,
        "other_measurements": [other.model_dump(mode="json") for other in exported.measurements[1:]],
        "stale": exported.is_stale,
        "doubts": list(exported.warnings),
    }


MEASURED = (
    *("latency_p50_ms", "latency_p90_ms", "latency_p99_ms"),
    *("load_s", "cold_load_s", "peak_bytes", "steady_bytes", "energy_j"),
)


def _measured_json(measured: Measurement) -> dict[str, float | None]:
    """Return the measured values by the names in MEASURED."""
    latency = latency_ms(measured)
    percentiles = (latency.p50, latency.p90, latency.p99)
    return {
        **dict(zip(MEASURED, percentiles, strict=False)),
        **{name: getattr(measured, name) for name in MEASURED[3:]},
    }
