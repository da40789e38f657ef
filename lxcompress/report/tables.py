"""A summary as results.csv (a row a run, and an artifact) and results.json (everything)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from lxcompress.analysis.pick import Choice, choice_json, spread_json
from lxcompress.analysis.protocol import protocol_name
from lxcompress.analysis.published import SOURCE, PublishedGroup, compare
from lxcompress.analysis.summary import RunSummary, SeedGroup, Stage, latency_ms
from lxcompress.analysis.usage import usage_json
from lxcompress.output import csv_text, json_text
from lxcompress.records import Dense, Measurement, Result, Score, Usage
from lxcompress.report.costs import (
    COST_AXES,
    Entry,
    find_dense,
    find_front,
    find_missing_baselines,
    number_costs,
    ratio,
)
from lxcompress.report.methods import methods_json

# Columns of results.csv; accuracies and sparsities are fractions of 0-1. An empty field: the row has no such value.
COLUMNS: dict[str, str] = {
    "kind": "dense (one unpruned run per seed), cell (one pruned, rewound and retrained model) or artifact (an "
    "exported file)",
    "cell": "the cell's id, which is its folder under tickets/; dense for a dense run; of an artifact, what it is of",
    "method": "the name of the way in which its ticket was drawn; its settings are in the recipe",
    "control": "what the method controls for, and then never to ship; empty for a ticket",
    "criterion": "which weights were kept",
    "granularity": "what was removed as one: weight is each weight by itself",
    "protocol": "corrected, published (with all faults of the published study), or the faults that were reproduced",
    "scope": "within what weights were ranked: layer is the same share of each matrix, global all of them together",
    "seed": "the seed of the start weights and of the training order",
    "target_sparsity": "the share of prunable weights that the recipe asked to remove",
    "achieved_sparsity": "the share of prunable weights that was removed",
    "sparsity_of_live": "the share removed of all weights that the answer depends on",
    "sparsity_of_all": "the share removed of all weights",
    "kept_language": "share of the prunable weights of the language part that stays, 0-1",
    "kept_vision": "share of the prunable weights of the vision part that stays, 0-1",
    "kept_cross": "share of the prunable weights of the part where language and vision meet that stays, 0-1",
    "kept_head": "share of the prunable weights of the answer head that stays, 0-1",
    "parameters": "weights of the model that answers, the zeros of a mask among them",
    "flops": "floating-point operations of one question of usual length, if zeros are multiplied as any number",
    "regrown": "removed weights that are not zero after retraining; only the fault mask-applied-once leaves any",
    "start": "accuracy of the start weights, before any training on the task",
    "pruned": "accuracy straight after pruning the dense model",
    "rewound": "accuracy after the kept weights were set back to their start",
    "retrained": "accuracy after retraining: the ticket's",
    "dense": "accuracy of the dense run of the same seed",
    "difference": "retrained minus dense of the same seed",
    "questions": "how many validation questions the accuracies are over",
    "epochs": "epochs of the training or retraining",
    "steps": "optimizer steps of every training that the row took; a ticket's dense run is a row of its own",
    "duration_s": "seconds that the row took; under the fault one-dense-run every dense row repeats the one run",
    "drawing_s": "those of its seconds that drawing the ticket took: evidence and choosing",
    "device": "where it ran",
    "precision": "the arithmetic it ran in; of an artifact, what its file holds",
    "usage_peak_bytes": "most bytes of GPU memory that were held at once",
    "usage_utilisation": "share of the time in which some kernel ran on the GPU, 0-1",
    "usage_energy_j": "joules that the GPU took",
    "artifact": "the exported file's name, which is its folder under artifacts/; what follows is of artifacts too",
    "stands_for": "dense, ticket or structured, and its precision where that is not fp32: which twin it is",
    "format": "what it was exported as",
    "exported": "accuracy of the exported file",
    "export_change": "that minus the accuracy of the model it was made of, on the same questions",
    "size_bytes": "bytes on disk",
    "runtime": "what it was measured in, at the usual task: the recipe's threads, lengths as the data's",
    "threads": "how many threads it was measured with",
    "latency_p50_ms": "median latency of one answer",
    "latency_p90_ms": "90th percentile of the latency of one answer",
    "latency_p99_ms": "99th percentile of the latency of one answer",
    "load_s": "seconds to load a file that is in the page cache",
    "cold_load_s": "seconds to load a file that is not",
    "peak_bytes": "most memory that the measured process ever held",
    "steady_bytes": "memory that it held between answers",
    "energy_j": "joules that the processor took for one answer",
}
TYPE_COLUMNS = "accuracy at a stage (pruned, rewound, retrained, dense) over the questions of one answer type"


def results_csv(summary: RunSummary) -> str:
    """Dense rows, then a row for each finished cell and for each artifact.

    The columns are COLUMNS, and one for each stage and answer type.
    """
    dense = {each.seed: each for each in summary.dense_runs}
    rows = [*map(_dense_row, summary.dense_runs)]
    rows += [_cell_row(result, dense.get(result.seed)) for result in summary.results]
    rows += [_artifact_row(entry) for entry in number_costs(summary)]
    rows = [{**row, "protocol": protocol_name(summary.recipe)} for row in rows]
    types = {column: None for row in rows for column in row if column not in COLUMNS}
    return csv_text([*COLUMNS, *types], rows)


def results_json(summary: RunSummary, choice: Choice) -> str:
    """The summary, the choice, and every record that they were made from."""
    entries = number_costs(summary, choice.picked.cost if choice.picked else None)
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
            "lacking_twins": [asdict(each) for each in find_missing_baselines(summary, entries)],
            "doubts": list(summary.doubts),
            "taken": usage_json(summary.taken) if summary.taken else None,
        },
        "published": {"source": SOURCE, "dense": comparison.dense, "doubt": comparison.doubt} if comparison else None,
        "pick": choice_json(choice),
        "floors": summary.floors.model_dump(mode="json") if summary.floors else None,
        "dense_runs": [each.model_dump(mode="json") for each in summary.dense_runs],
        "results": [each.model_dump(mode="json") for each in summary.results],
        "machine": summary.machine.model_dump(mode="json"),
        "recipe": summary.recipe.model_dump(mode="json"),
        "csv_columns": {**COLUMNS, "STAGE_TYPE": TYPE_COLUMNS},
    }
    return json_text(tree) + "\n"


def _dense_row(dense: Dense) -> dict[str, Any]:
    return {
        "kind": "dense",
        "cell": "dense",
        "seed": dense.seed,
        "start": dense.start.accuracy,
        "dense": dense.trained.accuracy,
        "questions": dense.trained.questions,
        **_run_columns(dense),
        **_type_columns({"dense": dense.trained}),
    }


def _cell_row(result: Result, dense: Dense | None) -> dict[str, Any]:
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
        "difference": result.retrained.accuracy - dense.trained.accuracy if dense else None,
        "questions": result.retrained.questions,
        **_run_columns(result),
        **_type_columns(stages),
    }


def _run_columns(record: Dense | Result) -> dict[str, Any]:
    return {
        "epochs": len(record.epochs),
        "steps": record.steps,
        "duration_s": record.duration_s,
        "device": record.device,
        "precision": record.precision,
        **_usage_columns(record.usage),
    }


def _usage_columns(usage: Usage | None) -> dict[str, Any]:
    if usage is None:
        return {}
    return {f"usage_{name}": getattr(usage, name) for name in ("peak_bytes", "utilisation", "energy_j")}


def _type_columns(stages: Mapping[str, Score]) -> dict[str, float]:
    return {f"{stage}_{name}": value for stage, score in stages.items() for name, value in score.by_type.items()}


def _group_json(group: SeedGroup, published: PublishedGroup | None) -> dict[str, Any]:
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
        "taken": usage_json(group.taken),
        "published": _published_json(group, published) if published else None,
    }


def _published_json(group: SeedGroup, published: PublishedGroup) -> dict[str, Any]:
    return {
        "mean": published.mean,
        "std": published.std,
        "runs": published.runs,
        "removed": published.removed,
        "difference": group.retrained.overall.mean - published.mean,
    }


def _stage_json(stage: Stage) -> dict[str, Any]:
    by_type = {name: spread_json(spread) for name, spread in stage.by_type.items()}
    return {**(spread_json(stage.overall) or {}), "by_type": by_type}


def _artifact_row(entry: Entry) -> dict[str, Any]:
    artifact, measured = entry.cost.artifact, entry.cost.fresh
    return {
        "kind": "artifact",
        "cell": artifact.cell or "dense",
        "artifact": artifact.name,
        "stands_for": entry.kind,
        "format": artifact.format,
        "precision": artifact.precision,
        "size_bytes": artifact.size_bytes,
        "exported": entry.accuracy,
        "export_change": entry.cost.accuracy_change,
        "questions": artifact.accuracy.questions if artifact.accuracy else None,
        "parameters": artifact.parameters,
        "flops": artifact.flops,
        **({"runtime": measured.task.runtime, "threads": measured.task.threads} if measured else {}),
        **(_measured(measured) if measured else {}),
    }


def _cost_json(entry: Entry, entries: Sequence[Entry]) -> dict[str, Any]:
    cost, dense = entry.cost, find_dense(entries)
    measured = cost.measurement
    return {
        "number": entry.number,
        "stands_for": entry.kind,
        "picked": entry.is_picked,
        "artifact": cost.artifact.model_dump(mode="json"),
        "folder": cost.folder.as_posix(),
        "sha256": cost.sha256,
        "accuracy_change": cost.accuracy_change,
        **(_measured(measured) if measured else dict.fromkeys(MEASURED)),
        "ratio_to": dense.cost.artifact.name if dense else None,
        "ratios": {trade.title: ratio(entry, dense, trade) for trade in COST_AXES},
        "on_front": [trade.title for trade in COST_AXES if entry in find_front(entries, trade)],
        "measurement": measured.model_dump(mode="json") if measured else None,
        "other_measurements": [each.model_dump(mode="json") for each in cost.measurements[1:]],
        "stale": cost.is_stale,
        "doubts": list(cost.doubts),
    }


MEASURED = (
    *("latency_p50_ms", "latency_p90_ms", "latency_p99_ms"),
    *("load_s", "cold_load_s", "peak_bytes", "steady_bytes", "energy_j"),
)


def _measured(measured: Measurement) -> dict[str, float | None]:
    latency = latency_ms(measured)
    percentiles = (latency.p50, latency.p90, latency.p99)
    return {
        **dict(zip(MEASURED, percentiles, strict=False)),
        **{name: getattr(measured, name) for name in MEASURED[3:]},
    }
