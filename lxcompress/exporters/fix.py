"""Fix the input shapes of an ONNX graph: one question of a fixed number of tokens and regions.

ONNX Runtime then computes all shapes when it loads the file, and plans the memory for them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from onnx import GraphProto, TypeProto, ValueInfoProto

from lxcompress.data.split import INPUT_NAMES
from lxcompress.shapes import FixedShape

TOKENS, OBJECTS, BATCH = "tokens", "objects", "batch"
"""The names of the free axes of a graph. Inputs have one row for each image of a question."""
_OF_TOKENS = INPUT_NAMES[:2]


def fix_shapes(graph: GraphProto, shape: FixedShape, *, images: int) -> None:
    """Give the free axes of the inputs, of the output and of all steps their fixed sizes, in place.

    The rows of the inputs are the images of one question.
    """
    for value in graph.input:
        rows_and_columns = (images, shape.tokens if value.name in _OF_TOKENS else shape.objects)
        _set_sizes(value, rows_and_columns)
    for value in graph.output:
        _set_sizes(value, (1,))
    known = {TOKENS: shape.tokens, OBJECTS: shape.objects, BATCH: 1}
    for value in graph.value_info:
        _set_known_sizes(value.type.tensor_type, known)


def _set_sizes(value: ValueInfoProto, sizes: Sequence[int]) -> None:
    """Set the first axes of a value to `sizes`, in place."""
    for axis, size in zip(value.type.tensor_type.shape.dim, sizes, strict=False):
        axis.dim_value = size


def _set_known_sizes(tensor: TypeProto.Tensor, known: Mapping[str, int]) -> None:
    """Set the axes whose names are in `known`, in place; a computed axis, such as tokens + objects, becomes unknown."""
    for axis in tensor.shape.dim:
        if axis.dim_param in known:
            axis.dim_value = known[axis.dim_param]
        elif axis.dim_param:
            axis.Clear()
