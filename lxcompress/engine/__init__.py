"""The engine: runs a model file that stores and computes only the weights that are not zero; numpy in, numpy out.

```
session = InferenceSession("model.lxe", threads=2)
(scores,) = session.run(None, {"input_ids": ids, ...})
```
"""

from lxcompress.engine.library import (
    InferenceSession,
    InputInfo,
    ModelFile,
    OutputInfo,
    instruction_sets,
    is_built,
)

Session, Model, Input, Output = InferenceSession, ModelFile, InputInfo, OutputInfo
"""The names of version 0.1."""

__all__ = ["InferenceSession", "InputInfo", "ModelFile", "OutputInfo", "instruction_sets", "is_built"]
