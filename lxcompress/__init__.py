"""lxcompress: how much of a vision-language model can go, what each step costs, and the artifact to ship."""

__version__ = "0.1.0"
