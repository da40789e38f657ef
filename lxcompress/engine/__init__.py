"""The engine: a model file of its own, and sessions that answer with its zeros left out. numpy in, numpy out.

```
session = Session("model.lxe", threads=2)
(scores,) = session.run(None, {"input_ids": ids, ...})
```
"""

from lxcompress.engine.library import Input, Model, Output, Session, instruction_sets, is_built

__all__ = ["Input", "Model", "Output", "Session", "instruction_sets", "is_built"]
