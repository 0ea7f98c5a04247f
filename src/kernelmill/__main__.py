"""The command line: `kernelmill COMMAND`, the same as `python -m kernelmill COMMAND`.

Exit codes: 0 done; 1 the job failed, or an output is not what its manifest says; 2 usage; 3 the plan, a setting or an
input was wrong before the job started; 128 and a signal's number if one ended it: 130 Ctrl-C, 143 SIGTERM, 129 SIGHUP,
141 the reader of standard output went away. The commands are in `engine/cli/group.py`.
"""

from __future__ import annotations

import gc
import importlib
import os
import sys


def main() -> None:
    """Run the command line of this process and exit.

    All else is imported in here, where an interrupt is caught: one in the first 0.1 s must not show an import's inside.
    """
    try:
        process = importlib.import_module("kernelmill.engine.cli.process")
        process.raise_on_signals()
        process.prepare_streams()
        os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # numpy would start threads that nothing here uses
        gc.set_threshold(50_000, 20, 50)  # imports make much that lives and little garbage: 0.04 s of a 0.5 s start
        code = importlib.import_module("kernelmill.engine.cli.group").run(sys.argv[1:])
        process.ignore_signals()
    except KeyboardInterrupt as stop:  # while importing, or for the second time
        code = getattr(stop, "exit_code", 130)
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    except (OSError, ValueError):
        pass  # a reader that went away has been dealt with by run
    os._exit(code)  # jobs have freed what outlives them; taking the interpreter apart costs 0.1 s more


if __name__ == "__main__":
    main()
