"""lxcompress: how much of a vision-language model can go, what each step costs, and the artifact to ship."""

import logging

# transformers and executorch import torchao, which then warns of GPU kernels that are not installed. Here, because it
# depends on the command which of the modules that lead there is imported first.
for _name in ("torchao", "torch.utils._pytree"):
    logging.getLogger(_name).setLevel(logging.ERROR)

__version__ = "0.1.0"
