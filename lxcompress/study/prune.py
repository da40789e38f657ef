"""One model pruned, and no study: what is left of it is kept as a ticket, neither rewound nor trained."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Any

from lxcompress.data.tasks import load_fitting_task
from lxcompress.errors import PruneError, TicketError
from lxcompress.models.checkpoints import Model, load_model, load_vocabulary, read_word_files
from lxcompress.models.resize import SURGERY_FILE
from lxcompress.models.shape import describe_folder
from lxcompress.pruning.choose import check_granularity, mask_from_scores
from lxcompress.pruning.criteria import CRITERIA, Evidence, score_weights
from lxcompress.pruning.mask import Mask
from lxcompress.pruning.surgery import Surgery, operate
from lxcompress.pruning.units import MULTIPLE, check_structured, choose_units
from lxcompress.recipe import BLIND_CRITERIA, STRUCTURED, Recipe
from lxcompress.records import Provenance
from lxcompress.study.agreement import resolve_recipe
from lxcompress.study.choose import fit_cut
from lxcompress.tickets import TICKET_FILE, is_ticket, load_ticket, save_ticket
from lxcompress.training.evidence import gather
from lxcompress.training.place import choose_place
from lxcompress.writing import finished_folder, is_vacant

SCOPES = ("layer", "row", "global")
"""The others need rates, or measurements that a study makes."""


def prune_model(
    source: str,
    out: Path,
    *,
    criterion: str = "low-magnitude",
    sparsity: float | None = None,
    granularity: str = "weight",
    scope: str = "layer",
    seed: int = 0,
    multiple: int = MULTIPLE,
    keep_dense: Collection[str] = (),
    like: Path | None = None,
    calibration: Recipe | None = None,
) -> Provenance:
    """Prunes the model at `source` (a transformers folder, a hub name or a ticket) and saves it as a ticket at `out`.

    A weight that is zero already is only a small weight; `multiple` is of the widths that structured granularities
    leave. With `like`, what that ticket keeps is kept here too. Criteria that look at data take it from the training
    questions of the recipe `calibration`. Raises LxError.
    """
    is_wish = granularity != "weight" or scope != "layer" or bool(keep_dense) or multiple != MULTIPLE
    _check_wish(criterion, sparsity, scope, like, calibration, is_wish=is_wish)
    _check_vacant(out)
    if (Path(source) / SURGERY_FILE).is_file():
        raise PruneError(f"{source}: is a smaller model already; prune the model that it was cut from")
    earlier = load_ticket(Path(source)) if is_ticket(Path(source)) else None
    model = earlier.model if earlier else load_model(source)
    shapes = {name: weight.shape for name, weight in model.prunable.items()}
    told: dict[str, Any] = {"criterion": criterion, "granularity": granularity, "scope": scope, "target": sparsity}
    cut: Mask | Surgery
    if like is not None:
        cut = fit_cut(like, model)
        told = load_ticket(like).provenance.model_dump(include=set(told))
    elif granularity in STRUCTURED:
        groups = check_structured(model, granularity, sparsity, scope=scope, multiple=multiple, keep_dense=keep_dense)
        scores = _score(model, source, criterion, seed, calibration)
        cut = choose_units(
            scores, groups, prunable=shapes, sparsity=sparsity, scope=scope, multiple=multiple, keep_dense=keep_dense
        )
    else:
        wish = {"granularity": granularity, "sparsity": sparsity, "scope": scope, "keep_dense": keep_dense}
        check_granularity(shapes, **wish)
        cut = mask_from_scores(_score(model, source, criterion, seed, calibration), **wish)
    if isinstance(cut, Surgery):
        counted, pruned = cut.count(model.live, model.whole, shapes), operate(model, cut)
        weights = pruned.weights
    else:
        counted, pruned, weights = cut.count(model.live, model.whole), model, cut.apply(model.weights)
    provenance = Provenance(
        cell=None,
        **told,
        seed=seed,
        sparsity=counted,
        start_file=None,
        start_sha256=None,
        data=earlier.provenance.data if earlier else None,
        accuracy=None,
    )
    words = read_word_files(source)
    with finished_folder(out, TICKET_FILE, before=lambda: _check_vacant(out)) as made:
        save_ticket(made, pruned, cut=cut, weights=weights, vocabulary=words, provenance=provenance)
    return provenance


def _check_vacant(out: Path) -> None:
    """Raises TicketError for a place that holds something."""
    if out.exists() and (not out.is_dir() or not is_vacant(out)):
        raise TicketError(f"{out}: exists and is not an empty folder; give another --out, or remove it")


def _check_wish(
    criterion: str,
    sparsity: float | None,
    scope: str,
    like: Path | None,
    calibration: Recipe | None,
    *,
    is_wish: bool,
) -> None:
    """Raises PruneError for what cannot be wished of any model; `is_wish` says whether anything says what to keep."""
    if like is not None:
        if sparsity is not None or calibration is not None or criterion != "low-magnitude" or is_wish:
            raise PruneError(f"--like {like}: its mask is drawn already; give --out and --seed beside it, and no more")
        return
    if criterion not in CRITERIA:
        raise PruneError(f"--criterion {criterion}: is unknown; this lxcompress knows {', '.join(CRITERIA)}")
    if criterion == "movement":
        raise PruneError("--criterion movement: is of a training's course; run a study, which trains")
    if criterion not in BLIND_CRITERIA and calibration is None:
        raise PruneError(
            f"--criterion {criterion}: needs training questions to look at, and has none; give --calibrate RECIPE"
        )
    if criterion in BLIND_CRITERIA and calibration is not None:
        raise PruneError(f"--calibrate: has no effect on {criterion}, which looks at the weights alone; leave it out")
    if scope not in SCOPES:
        raise PruneError(f"--scope {scope}: is unknown without a study, which knows more; give {', '.join(SCOPES)}")
    if sparsity is None or not 0 < sparsity < 1:
        given = "is missing" if sparsity is None else f"{sparsity:g}"
        raise PruneError(f"--sparsity {given}: is a share of the weights between 0 and 1, such as 0.5 for 50 %")


def _score(model: Model, source: str, criterion: str, seed: int, calibration: Recipe | None) -> dict[str, Any]:
    """The criterion's scores of the model's prunable weights."""
    needed = CRITERIA[criterion].needs
    evidence = Evidence()
    if needed is not None and calibration is not None:
        recipe = resolve_recipe(calibration)
        place = choose_place(recipe.device, recipe.train.precision)
        task = load_fitting_task(recipe.data, load_vocabulary(source), describe_folder(source))
        found = gather(
            model,
            {name: tensor.clone() for name, tensor in model.weights.items()},
            task,
            kind=needed,
            settings=recipe.train,
            place=place,
            seed=seed,
            questions=recipe.prune.calibration.questions,
            batch_size=recipe.prune.calibration.batch_size,
        )
        model.module.cpu()
        evidence = Evidence(**{needed: found})
    return score_weights(model.prunable, criterion=criterion, seed=seed, evidence=evidence)
