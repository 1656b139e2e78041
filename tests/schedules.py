"""Workers interleaved call by call, and crashing between any two.

Each worker is a thread that runs the real code. Before every call to the outside it waits for its turn; a crash ends it
there, and nothing it does afterwards reaches the outside, as when Lambda kills a process.
"""

import threading
from collections.abc import Callable
from typing import Any

from tests.processes import LONGEST


class Crash(BaseException):
    """The process is gone. No `except Exception` sees it."""


class Worker(threading.Thread):
    """Does `work`; takes a step, that is one call to the outside, when it is told to."""

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
        assert self._waiting.acquire(timeout=LONGEST), "the worker waits for something else than its turn"

    def before_call(self) -> None:
        if self._crash_before is not None and self.steps >= self._crash_before:
            raise Crash
        self._waiting.release()
        self._go.acquire()
        self.steps += 1


def before_call(*_: object, **__: object) -> None:
    """The hook for clients: asks the worker whose thread this is, and nobody else."""
    worker = threading.current_thread()
    if isinstance(worker, Worker):
        worker.before_call()


def watch(*clients: Any) -> None:
    """Let these clients of boto3 ask their worker before each call."""
    for client in clients:
        client.meta.events.register_first("before-call", before_call, unique_id="schedule")


def run_all(workers: list[Worker], turns: list[int]) -> None:
    """Let the workers step in the order of `turns`, then the rest one after the other."""
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
