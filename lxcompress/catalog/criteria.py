"""The pruning criteria: each gives a score to every weight, and the weights with the highest scores are kept.

docs/extending.md shows how another package adds a criterion.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, get_args

from lxcompress.catalog.extensions import all_names, load_spec

Statistic = Literal["movement", "gradient", "squared_gradient", "input_norm"]
"""A statistic of a weight, for criteria whose scores need more than the value of the weight:

- movement: the sum of -w * dL/dw over the steps of the dense training (only a study measures it)
- gradient, squared_gradient: the means of |dL/dw| and of (dL/dw)^2 over batches of training questions
- input_norm: the L2 norm of each input of the weight's matrix, over training questions
"""


@dataclass(frozen=True)
class CriterionSpec:
    """A pruning criterion: its name in recipes and commands, its score function, and the statistic that this needs."""

    name: str
    score: str
    """"module:function" of a function (weight, statistic, generator) -> scores, of type pruning.criteria.Score"""
    needs: Statistic | None = None
    """the statistic that the score reads; None if it reads the weights only"""
    summary: str = ""
    """which weights the criterion removes first, and its source, in one line"""

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[a-z0-9][a-z0-9-]{0,39}", self.name):  # the name becomes a part of folder names
            raise ValueError(f"name {self.name!r}: expected small letters, digits and hyphens, such as my-criterion")
        if self.needs not in (None, *get_args(Statistic)):
            raise ValueError(f"needs {self.needs!r}: expected None or one of {', '.join(get_args(Statistic))}")

    @property
    def reads_weights_only(self) -> bool:
        """Return whether the criterion needs neither training questions nor a training."""
        return self.needs is None

    @property
    def needs_training(self) -> bool:
        """Return whether the criterion needs a statistic that only a whole training can measure."""
        return self.needs == "movement"

    @property
    def needs_questions(self) -> bool:
        """Return whether the criterion needs a statistic that is measured on some training questions."""
        return not (self.reads_weights_only or self.needs_training)


_MODULE = "lxcompress.pruning.criteria"

CRITERIA: Mapping[str, CriterionSpec] = {
    spec.name: spec
    for spec in (
        CriterionSpec("low-magnitude", f"{_MODULE}:magnitude", None, "smallest |w| first (Han et al. 2015)"),
        CriterionSpec("random", f"{_MODULE}:noise", None, "at random: the control"),
        CriterionSpec("high-magnitude", f"{_MODULE}:negative_magnitude", None, "largest |w| first: the control"),
        CriterionSpec("movement", f"{_MODULE}:movement", "movement", "moved towards 0 first (Sanh et al. 2020)"),
        CriterionSpec("taylor", f"{_MODULE}:taylor", "gradient", "smallest |w| |dL/dw| first (Molchanov et al. 2019)"),
        CriterionSpec("wanda", f"{_MODULE}:wanda", "input_norm", "smallest |w| |x| first (Sun et al. 2023)"),
        CriterionSpec("fisher", f"{_MODULE}:fisher", "squared_gradient", "smallest w^2 (dL/dw)^2 first (LeCun 1990)"),
    )
}
"""The criteria of lxcompress by name."""
PUBLISHED_CRITERIA = ("low-magnitude", "random", "high-magnitude")
"""The criteria of the published study, which are also the default grid of a recipe."""


def criterion_names() -> tuple[str, ...]:
    """Return the names of all criteria: those of lxcompress, then those of other installed packages."""
    return all_names("criteria", CRITERIA)


def is_criterion(name: str) -> bool:
    """Return whether lxcompress or an installed package has a criterion of this name."""
    return name in CRITERIA or name in criterion_names()


def find_criterion(name: str) -> CriterionSpec:
    """Return the spec of a criterion of lxcompress or of another package.

    Raises ExtensionError if no package adds the criterion, or if the package that adds it fails to load.
    """
    return CRITERIA[name] if name in CRITERIA else load_spec("criteria", name, CriterionSpec)


def list_criteria() -> str:
    """Return a sentence for a help text that lists the criteria of lxcompress, except movement."""
    plain = ", ".join(name for name, spec in CRITERIA.items() if spec.reads_weights_only)
    measured = ", ".join(name for name, spec in CRITERIA.items() if spec.needs_questions)
    return f"{plain}; with --calibrate also {measured}; or one that another package adds."
