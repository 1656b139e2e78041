"""Runs the emulator, for programs on this machine, until it ends or the parent process closes stdin.

Its one argument is the temporary folder. It is deleted when the parent ends, even if the parent was killed.
"""

import os
import shutil
import signal
import sys
import threading

from scripts.embedded.loopback import programs_only
from scripts.embedded.signatures import signed_by_root


def end_with_parent(folder: str) -> None:
    sys.stdin.buffer.read()
    shutil.rmtree(folder, ignore_errors=True)  # a parent that was killed cannot do it
    end_group()


def end_group() -> None:
    """Kill the process group: this process, and the functions' workers, which would go on without it."""
    os.killpg(0, signal.SIGKILL)


def serve(folder: str) -> None:
    """Run the emulator in `folder`, without the project on the path: functions import only their own package."""
    sys.path.pop(0)
    os.chdir(folder)
    import ministack.app  # type: ignore[import-untyped]  # reads its environment when it is imported

    ministack.app.app = programs_only(signed_by_root(ministack.app.app))  # the application that its `main` serves
    ministack.app.main()


if __name__ == "__main__":
    folder = sys.argv.pop()
    threading.Thread(target=end_with_parent, args=[folder], daemon=True).start()
    try:
        serve(folder)
    finally:
        end_group()
