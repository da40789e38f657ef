"""Leave keys without a value out of written JSON and YAML, so that files are written as by earlier versions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pydantic import model_serializer


def leave_out_unset(*keys: str) -> Any:
    """Return a serializer of a pydantic model that does not write those of `keys` whose value is None.

    Assign it to a name in the body of the model. The field option `exclude_if` does the same, but needs pydantic 2.12,
    which cannot be installed beside the converter of the extra litert.
    """

    def write(self: Any, dump: Callable[[Any], dict[str, Any]]) -> dict[str, Any]:
        return {key: value for key, value in dump(self).items() if value is not None or key not in keys}

    # A value, not an annotation: pydantic before 2.11 looks for names of annotations in the module of the model.
    return model_serializer(mode="wrap", return_type=dict[str, Any])(write)
