"""Fibres on a virtual clock. One thread runs one fibre at a time, in the order of events: a seed gives one schedule."""

from collections.abc import Callable, Iterable
from heapq import heappop, heappush
from random import Random
from typing import Any

from greenlet import getcurrent, greenlet

MOST_EVENTS = 1_000_000  # of a schedule: more is a loop


class Crash(BaseException):
    """The process was killed. `except Exception` does not catch it."""


class Process:
    """What dies together: an invocation with its threads, or a command of an operator.

    `random` decides about its calls alone, so that a fault that is left out changes no other process's decisions.
    """

    def __init__(self, name: str, random: Random, deadline: float = float("inf")) -> None:
        self.name, self.random, self.deadline = name, random, deadline
        self.calls, self.is_dead = 0, False
        self.fibres: list[Fibre] = []


class Fibre(greenlet):
    """A line of execution of one process."""

    def __init__(self, process: Process, work: Callable[[], Any], hub: "Scheduler") -> None:
        super().__init__(self._run, hub.hub)
        self.process, self._work, self._hub = process, work, hub
        self.result: Any = None
        self.error: BaseException | None = None
        self.is_done = False
        self.turn = 0  # the number of the event that wakes it; an older event does not
        self.then: list[Callable[[], None]] = []  # called when it is done
        process.fibres.append(self)

    def _run(self) -> None:
        try:
            self.end(self._work(), None)
        except BaseException as error:
            self.end(None, error)

    def end(self, result: Any, error: BaseException | None) -> None:
        self.result, self.error, self.is_done = result, error, True
        for act in self.then:
            act()


class Scheduler:
    """A heap of events. `now` is in Unix seconds."""

    def __init__(self, now: float) -> None:
        self.now, self.hub = now, getcurrent()
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._number = 0

    def at(self, time: float, act: Callable[[], None]) -> None:
        """Call `act` at this time."""
        self._number += 1
        heappush(self._events, (max(time, self.now), self._number, act))

    def start(self, process: Process, work: Callable[[], Any], after: float = 0) -> Fibre:
        fibre = Fibre(process, work, self)
        self.wake(fibre, after)
        return fibre

    def wake(self, fibre: Fibre, after: float = 0) -> None:
        """Let the fibre go on; an earlier event for it no longer counts."""
        fibre.turn = turn = self._number + 1
        self.at(self.now + after, lambda: self._resume(fibre, turn))

    def _resume(self, fibre: Fibre, turn: int) -> None:
        if fibre.turn != turn or fibre.dead:
            return
        process = fibre.process
        process.is_dead = process.is_dead or self.now >= process.deadline
        if not process.is_dead:
            fibre.switch()
        elif fibre:  # it has begun
            fibre.throw(Crash)
        else:
            fibre.end(None, Crash())

    def sleep(self, seconds: float) -> None:
        """Pause the running fibre. A process that is past its deadline, or killed meanwhile, never goes on."""
        fibre = getcurrent()
        assert isinstance(fibre, Fibre), "only fibres sleep"
        self.check(fibre.process)
        self.wake(fibre, min(max(seconds, 0), max(fibre.process.deadline - self.now, 0)))
        self.hub.switch()

    def check(self, process: Process) -> None:
        """Raise Crash in a process that is dead: what its `finally` blocks would still do does not happen."""
        if process.is_dead:
            raise Crash

    def kill(self, process: Process) -> None:
        process.is_dead = True
        for fibre in process.fibres:
            if not fibre.dead and fibre is not getcurrent():
                self.wake(fibre)

    def join(self, fibres: Iterable[Fibre]) -> None:
        """Wait in the running fibre until these are done."""
        me = getcurrent()
        assert isinstance(me, Fibre)
        for fibre in fibres:
            while not fibre.is_done:
                fibre.then.append(lambda: self.wake(me))
                me.turn = -1  # only the other fibre, or a kill, wakes it
                self.hub.switch()
                self.check(me.process)

    def run(self, until: float) -> None:
        """Process all events up to this time."""
        while self._events and self._events[0][0] <= until:
            assert self._number < MOST_EVENTS, "the schedule does not end"
            self.now, _, act = heappop(self._events)
            act()
        self.now = max(self.now, until)

    @property
    def is_idle(self) -> bool:
        return not self._events
