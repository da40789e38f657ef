"""Models: one adapter file a family, and how weights come from and go to disk."""

import logging

# transformers imports torchao where executorch has brought it, which then warns of GPU kernels that are not installed.
for _name in ("torchao", "torch.utils._pytree"):
    logging.getLogger(_name).setLevel(logging.ERROR)
