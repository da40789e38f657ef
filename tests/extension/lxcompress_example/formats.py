"""What lxcompress reads to know the format and the runtime; it imports no torch."""

from lxcompress.catalog.formats import FormatSpec
from lxcompress.catalog.runtimes import RuntimeSpec

FORMAT = FormatSpec(
    name="torch-export",
    precisions=("fp32",),
    write="lxcompress_example.torch_export:write",
    count_zeros="lxcompress_example.torch_export:count_zeros",
    libraries=("torch",),
)
RUNTIME = RuntimeSpec(
    name="torch-export",
    library="torch",
    open="lxcompress_example.torch_export:open_program",
    formats=("torch-export",),
)
