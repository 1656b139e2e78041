"""Runs the emulator for programs on this machine until it ends or the parent's end of stdin closes.

The one argument is the temporary folder, which goes with the parent however that ended.
"""

import os
import shutil
import signal
import sys
import threading

from scripts.embedded.loopback import programs_only


def end_with_parent(folder: str) -> None:
    sys.stdin.buffer.read()
    shutil.rmtree(folder, ignore_errors=True)  # a killed parent cannot
    end_group()


def end_group() -> None:
    """Kill the whole process group: this process and the functions' workers, which would outlive it."""
    os.killpg(0, signal.SIGKILL)


def serve(folder: str) -> None:
    """Run the emulator with `folder` in the project's place, for nothing of the project may reach the functions."""
    sys.path.pop(0)
    os.chdir(folder)
    import ministack.app  # type: ignore[import-untyped]  # reads its environment when it is imported

    ministack.app.app = programs_only(ministack.app.app)  # what its `main` serves
    ministack.app.main()


if __name__ == "__main__":
    folder = sys.argv.pop()
    threading.Thread(target=end_with_parent, args=[folder], daemon=True).start()
    try:
        serve(folder)
    finally:
        end_group()
