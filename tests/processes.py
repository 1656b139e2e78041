"""Processes of tests: no wait for one is without end."""

import subprocess
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from threading import Timer
from typing import Any

LONGEST = 120.0


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
