"""Text input, the whole of it: blocks of bytes for kernels that tokenize, batches of lines for all else."""

from kernelmill.engine.io.blocks import TextBlock, read_blocks
from kernelmill.engine.io.encodings import is_splittable
from kernelmill.engine.io.lines import read_batches

__all__ = ["TextBlock", "is_splittable", "read_batches", "read_blocks"]
