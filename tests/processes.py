"""Processes of tests: no wait for one is without end."""

import fcntl
import os
import pty
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from threading import Timer
from typing import Any

LONGEST = 120.0
ROOT = Path(__file__).parent.parent


@contextmanager
def at_most(seconds: float, kill: Callable[[], object]) -> Iterator[None]:
    """Call `kill` if the block takes longer than `seconds`, so that what it waits for has ended."""
    timer = Timer(seconds, kill)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


@contextmanager
def started(command: Sequence[str], *, seconds: float = LONGEST, **options: Any) -> Iterator[Any]:
    """A process for the time of the block, killed at its end or after `seconds`; `options` are those of Popen."""
    process = subprocess.Popen(command, **options)
    try:
        with at_most(seconds, process.kill):
            yield process
    finally:
        process.kill()
        process.communicate(timeout=LONGEST)  # closes its pipes too


def type_hidden(code: str, typed: bytes) -> tuple[bytes, str]:
    """What the terminal shows and what `code` prints, if somebody types as soon as it hides what is typed."""
    terminal, end = pty.openpty()
    with started(
        [sys.executable, "-c", code], cwd=ROOT, stdin=end, stdout=subprocess.PIPE, stderr=end, start_new_session=True,
        preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
    ) as process:  # fmt: skip
        while (
            termios.tcgetattr(end)[3] & termios.ECHO and process.poll() is None
        ):  # what is typed before is thrown away
            time.sleep(0.02)
        os.write(terminal, typed)
        came = process.communicate(timeout=LONGEST)[0].decode().strip()
    os.close(end)
    shown = os.read(terminal, 1000)
    os.close(terminal)
    return shown, came
