"""Runs schedules by their seeds, on all cores, and makes the trace of one that fails as small as it gets."""

import contextlib
import multiprocessing
from collections.abc import Iterator
from dataclasses import dataclass, field

from tests.faults.simulator.oracles import WATCHING, judge
from tests.faults.simulator.planted import PLANTED
from tests.faults.simulator.simulation import Simulation
from tests.faults.simulator.story import Part

Spared = frozenset[tuple[str, int]]  # faults, by process and number of its call
CHUNK = 50  # schedules that a worker takes at once


@dataclass
class Result:
    """What came of one schedule. `violations` are sentences by oracle; `parts` of its story, `injected` faults."""

    seed: int
    calls: int
    violations: dict[str, str]
    parts: list[Part] = field(default_factory=list)
    injected: list[tuple[str, int]] = field(default_factory=list)
    trace: list[str] = field(default_factory=list)
    story: str = ""


def run(
    seed: int, plant: str = "", left_out: frozenset[int] = frozenset(), spared: Spared = frozenset(), *,
    traced: bool = False,
) -> Result:  # fmt: skip
    """One schedule; with a planted bug if it is named."""
    trace: list[str] = []
    simulation = Simulation(str(seed), left_out, spared, trace if traced else None)
    for watch in WATCHING.values():
        watch(simulation)
    with PLANTED[plant].planted() if plant else contextlib.nullcontext():
        simulation.run()
    injected = list(dict.fromkeys(simulation.world.faults.injected))
    found = judge(simulation)
    return Result(
        seed, simulation.world.calls, found, simulation.story.parts, injected, trace, str(simulation.story)
    )  # fmt: skip


def smallest(seed: int, plant: str = "") -> Result:
    """The schedule without the parts and faults that its first violation does not need."""
    whole = run(seed, plant)
    if not whole.violations:
        return run(seed, plant, traced=True)
    oracle = next(iter(whole.violations))
    left_out: frozenset[int] = frozenset()
    spared: Spared = frozenset()
    for number in range(len(whole.parts)):
        if oracle in run(seed, plant, left_out | {number}).violations:
            left_out |= {number}
    for _ in range(3):  # a fault that is left out may bring others
        before = spared
        for fault in run(seed, plant, left_out, spared).injected:
            if oracle in run(seed, plant, left_out, spared | {fault}).violations:
                spared |= {fault}
        if spared == before:
            break
    return run(seed, plant, left_out, spared, traced=True)


def run_all(seeds: range, processes: int) -> Iterator[Result]:
    """All schedules of these seeds, as they are done; the results have no traces."""
    with multiprocessing.get_context("spawn").Pool(processes) as pool:
        yield from pool.imap_unordered(run, seeds, chunksize=CHUNK)


def first_failing(plant: str, most: int) -> Result | None:
    """The first schedule in which an oracle sees a planted bug; None if there is none."""
    return next((found for found in (run(seed, plant) for seed in range(most)) if found.violations), None)
