"""Runs the emulator until it ends or the parent's end of stdin closes, however the parent ended.

The one argument is the temporary folder, which goes with the parent.
"""

import os
import runpy
import shutil
import signal
import sys
import threading


def end_with_parent(folder: str) -> None:
    sys.stdin.buffer.read()
    shutil.rmtree(folder, ignore_errors=True)  # a killed parent cannot
    end_group()


def end_group() -> None:
    """Kill the whole process group: this process and the functions' workers, which would outlive it."""
    os.killpg(0, signal.SIGKILL)


if __name__ == "__main__":
    threading.Thread(target=end_with_parent, args=[sys.argv.pop()], daemon=True).start()
    try:
        runpy.run_module("ministack", run_name="__main__", alter_sys=True)
    finally:
        end_group()
