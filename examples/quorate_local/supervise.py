"""Starts a program again when it ends, as a kubelet would with a container. Killing this process kills the program too.

`python -m quorate_local.supervise COMMAND...`; standard library and `processes` only.
"""

import signal
import subprocess
import sys
import time

from quorate_local import processes

RESTART_DELAY_SECONDS = 1.0


def main() -> None:
    """Run until SIGTERM, which is passed on."""
    child: subprocess.Popen[bytes] | None = None

    def stop(*_: object) -> None:
        if child is not None:
            child.terminate()
            child.wait()
        sys.exit(0)

    signal.signal(signal.SIGTERM, stop)
    while True:
        child = subprocess.Popen(sys.argv[1:], preexec_fn=processes.die_with_parent)
        code = child.wait()
        print(f"ended with {code}, starting again", flush=True)
        time.sleep(RESTART_DELAY_SECONDS)


if __name__ == "__main__":
    main()
