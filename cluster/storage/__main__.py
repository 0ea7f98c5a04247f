"""`python -m kernelmill.cluster.storage`: the storage process."""

from __future__ import annotations

import sys

from kernelmill.cluster.storage.process import main

main(sys.argv[1:])
