"""`python -m kernelmill.cluster.leash FD COMMAND ...`: a kernelmill command that ends when whoever holds the other end
of pipe FD does. A LocalCluster starts its processes so: nothing is left however the user's program ends.

Not PR_SET_PDEATHSIG: that goes by the thread that started the process, which may end long before its program.
"""

from __future__ import annotations

import os
import signal
import sys
import threading

from kernelmill.__main__ import main

_LEAVING_S = 5.0


def hold(handle: int) -> None:
    """End this process, as Ctrl-C would, when the other end of the pipe is closed; at once after 5 s more."""

    def wait() -> None:
        os.read(handle, 1)
        os.kill(os.getpid(), signal.SIGINT)
        threading.Event().wait(_LEAVING_S)
        os._exit(1)

    threading.Thread(target=wait, name="kernelmill-leash", daemon=True).start()


if __name__ == "__main__":
    hold(int(sys.argv[1]))
    del sys.argv[1]
    main()
