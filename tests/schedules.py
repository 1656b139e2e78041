"""Workers that are interleaved call by call, and that crash between any two calls.

Each worker is a thread that runs the real code. Before every external call it waits for its turn. A crash ends it
there, and none of its later calls happen, as when Lambda kills a process.
"""

import threading
from collections.abc import Callable
from typing import Any

from tests.processes import LONGEST


class Crash(BaseException):
    """The process was killed. `except Exception` does not catch it."""


class Worker(threading.Thread):
    """Runs `work`, one external call for each `step`."""

    def __init__(self, work: Callable[[], object], crash_before: int | None = None) -> None:
        super().__init__(daemon=True)
        self._work, self._crash_before = work, crash_before
        self._go, self._waiting = threading.Semaphore(0), threading.Semaphore(0)
        self.steps, self.alive = 0, True
        self.error: Exception | None = None

    def run(self) -> None:
        try:
            self._go.acquire()
            self._work()
        except Crash:
            pass
        except Exception as error:
            self.error = error
        finally:
            self.alive = False
            self._waiting.release()

    def step(self) -> None:
        self._go.release()
        assert self._waiting.acquire(timeout=LONGEST), "the worker is waiting for something other than its turn"

    def before_call(self) -> None:
        if self._crash_before is not None and self.steps >= self._crash_before:
            raise Crash
        self._waiting.release()
        self._go.acquire()
        self.steps += 1


def before_call(*_: object, **__: object) -> None:
    """The hook for clients: waits for the turn if the calling thread is a worker."""
    worker = threading.current_thread()
    if isinstance(worker, Worker):
        worker.before_call()


def watch(*clients: Any) -> None:
    """Make these boto3 clients wait for their worker's turn before each call."""
    for client in clients:
        client.meta.events.register_first("before-call", before_call, unique_id="schedule")


def run_all(workers: list[Worker], turns: list[int]) -> None:
    """Step the workers in the order of `turns`, and then finish the rest one after the other."""
    for worker in workers:
        worker.start()
    for turn in turns:
        alive = [worker for worker in workers if worker.alive]
        if alive:
            alive[turn % len(alive)].step()
    for worker in workers:
        while worker.alive:
            worker.step()
        worker.join(LONGEST)
