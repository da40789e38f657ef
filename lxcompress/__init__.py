"""The Python API of lxcompress: prune, export and measure vision-language models (docs/python.md).

A name is imported when it is first used, so that `import lxcompress` and `lxcompress --help` stay fast.
"""

from __future__ import annotations

import logging
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lxcompress.analysis.rule import Rule as PickRule
    from lxcompress.api import answer as answer
    from lxcompress.api import bench as bench
    from lxcompress.api import check_data as check_data
    from lxcompress.api import evaluate as evaluate
    from lxcompress.api import export as export
    from lxcompress.api import load_model as load_model
    from lxcompress.api import load_recipe as load_recipe
    from lxcompress.api import load_ticket as load_ticket
    from lxcompress.api import open_session as open_session
    from lxcompress.api import pick as pick
    from lxcompress.api import prune as prune
    from lxcompress.api import prune_to_budget as prune_to_budget
    from lxcompress.api import read_run as read_run
    from lxcompress.api import run_study as run_study
    from lxcompress.api import score as score
    from lxcompress.api import write_report as write_report
    from lxcompress.errors import LxError as LxError
    from lxcompress.measure.plan import BenchOptions as BenchOptions
    from lxcompress.workflow.budget import PruneBudget as PruneBudget
    from lxcompress.workflow.prune import PruneOptions as PruneOptions

# transformers and executorch import torchao, which warns of GPU kernels that are not installed. The warnings are
# silenced here, because each command imports these libraries through another module first.
for _name in ("torchao", "torch.utils._pytree"):
    logging.getLogger(_name).setLevel(logging.ERROR)

__version__ = "0.1.0"

__all__ = [
    "BenchOptions",
    "LxError",
    "PickRule",
    "PruneBudget",
    "PruneOptions",
    "answer",
    "bench",
    "check_data",
    "evaluate",
    "export",
    "load_model",
    "load_recipe",
    "load_ticket",
    "open_session",
    "pick",
    "prune",
    "prune_to_budget",
    "read_run",
    "run_study",
    "score",
    "write_report",
]

_HOMES = {
    "BenchOptions": "lxcompress.measure.plan:BenchOptions",
    "LxError": "lxcompress.errors:LxError",
    "PickRule": "lxcompress.analysis.rule:Rule",
    "PruneBudget": "lxcompress.workflow.budget:PruneBudget",
    "PruneOptions": "lxcompress.workflow.prune:PruneOptions",
}
"""Public name that is not in lxcompress.api -> the module and the name of its object."""


def __getattr__(name: str) -> Any:
    """Import and return the public object `name`; Python calls this function only the first time."""
    if name not in __all__:
        raise AttributeError(f"module 'lxcompress' has no attribute {name!r}")
    module, _, attribute = _HOMES.get(name, f"lxcompress.api:{name}").partition(":")
    value = globals()[name] = getattr(import_module(module), attribute)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
