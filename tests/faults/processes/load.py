"""Sustained webhooks against the embedded AWS: the depth of the queues, and whether a call costs more after thousands.

    python -m tests.faults.processes.load --calls 2000

All of it shares this machine: the emulator, whose one event loop serves each request of every function, the functions,
the sender and Mem0's stand-in. So the figures say how the queues take a load, and whether a call costs more time and
memory after thousands of calls. They do not say how fast AWS is. The limit of messages in flight is worked out on paper
(`in_flight`).
"""

import argparse
import json
import os
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from pathlib import Path
from threading import Event

from scripts.embedded.deployment import deploy
from tests.faults.processes.aws import MortalAws, short_timeouts
from tests.faults.processes.background import beside
from tests.faults.processes.calls import Call, make_calls, schedule
from tests.faults.processes.count import MEMORIES, QUEUES, Deployed, memories_of
from tests.faults.processes.in_flight import in_flight
from tests.faults.processes.sender import Sender
from tests.mem0_stand_in import HostedMem0

KEY, NAME = "m0-load", "load"
VERBATIM = {"MemoryInference": "false"}  # Mem0 answers at once; with inference a writer waits a second for it
WARM_UP = 20
SENDING_SECONDS, REST_SECONDS = 180.0, 60.0
STOP_SECONDS = 10.0  # for the last sample
ROWS = 12  # of the printed table


@dataclass(frozen=True)
class Sample:
    """What there was at one moment; queues in messages, waiting or at work."""

    second: int
    acknowledged: int
    archive: int
    memory: int
    dead: int
    memory_mb: int  # of all workers
    emulator_cpu: float  # seconds since it was started
    workers_cpu: float


@dataclass(frozen=True)
class Cost:
    """CPU milliseconds a call. The time on the clock depends on what else the machine does; this hardly does."""

    emulator: float
    workers: float


@dataclass(frozen=True)
class Result:
    asked: int
    acknowledged: int
    remembered: int
    left: int  # messages in queues and dead-letter queues at the end
    asked_per_second: float
    reached_per_second: float
    seconds: float
    answers: Mapping[int, int]
    answer_ms: float  # the median of those with 200
    samples: Sequence[Sample]


class Run:
    """One run on a stack that is up. `say` gets each step of the progress."""

    def __init__(self, aws: MortalAws, mem0: HostedMem0, say: Callable[[str], None]) -> None:
        self.aws, self.mem0, self.say = aws, mem0, say
        self.stack = Deployed(aws.client, deploy(aws, NAME, short_timeouts(mem0.url, KEY) | VERBATIM))
        self.samples: list[Sample] = []

    def run(self, number: int, per_second: float, seed: int, warm_up: int) -> Result:
        """The first `warm_up` calls do not count: the functions start with them."""
        calls = make_calls(seed, number + warm_up)
        warm, calls = calls[number:], calls[:number]
        with Sender(self.stack.outputs) as sender:
            sender.send(schedule(warm, seed, per_second, audio=False))
            self.stack.rest(REST_SECONDS, self.say)
        self.say(f"sending {number} calls, {per_second:g} a second")
        with Sender(self.stack.outputs) as sender, self.sampling(sender):
            begun = time.monotonic()
            sender.send(schedule(calls, seed, per_second, audio=False), begun + SENDING_SECONDS)
            sending = time.monotonic() - begun
            self.say(f"all sent after {sending:.0f} s")
            self.stack.rest(REST_SECONDS, self.say)
        return Result(
            number, len(sender.acknowledged), remembered(self.mem0, calls), sum(map(self.stack.depth, QUEUES)),
            per_second, round(len(sender.acknowledged) / sending, 2), round(time.monotonic() - begun, 1),
            dict(sender.answers), round(statistics.median(sender.seconds) * 1000), self.samples,
        )  # fmt: skip

    def sampling(self, sender: Sender) -> AbstractContextManager[None]:
        """Take a sample each second in the time of the block."""
        begun = time.monotonic()

        def sample(over: Event) -> None:
            while not over.wait(1):
                archive, memory, *dead = map(self.stack.depth, QUEUES)
                second, kept = round(time.monotonic() - begun), self.aws.memory_bytes() // 1_000_000
                depths = archive, memory, sum(dead)
                self.samples.append(Sample(second, len(sender.acknowledged), *depths, kept, *self.aws.cpu_seconds()))

        return beside(sample, STOP_SECONDS)


def remembered(mem0: HostedMem0, calls: Sequence[Call]) -> int:
    """Calls of which Mem0 has both memories."""
    found = memories_of(mem0, calls)
    return sum(all(found[call.conversation_id, kind] for kind in MEMORIES) for call in calls)


def cost(first: Sample, last: Sample) -> Cost:
    """What the calls between two samples cost."""
    calls = max(1, last.acknowledged - first.acknowledged) / 1000
    return Cost((last.emulator_cpu - first.emulator_cpu) / calls, (last.workers_cpu - first.workers_cpu) / calls)


def first_and_last(samples: Sequence[Sample], size: int = 100) -> tuple[Cost, Cost]:
    """The cost of the first hundred calls and of the last, as near as samples of each second tell."""
    begin, end = samples[0], samples[-1]
    after = next(each for each in samples if each.acknowledged >= min(begin.acknowledged + size, end.acknowledged))
    before = next(
        each for each in reversed(samples) if each.acknowledged <= max(end.acknowledged - size, 0) or each is begin
    )
    return cost(begin, after), cost(before, end)


def cores(samples: Sequence[Sample]) -> Cost:
    """Cores in use on average, until all were acknowledged."""
    begin, end = samples[0], next(each for each in samples if each.acknowledged == samples[-1].acknowledged)
    seconds = max(1, end.second - begin.second)
    return Cost((end.emulator_cpu - begin.emulator_cpu) / seconds, (end.workers_cpu - begin.workers_cpu) / seconds)


def show(result: Result) -> Iterator[str]:
    yield f"{'second':>7}{'acknowledged':>14}{'archive':>9}{'memory':>8}{'dead':>6}{'workers MB':>12}"
    step = max(1, len(result.samples) // ROWS)
    for each in result.samples[::step]:
        yield (
            f"{each.second:7}{each.acknowledged:14,}{each.archive:9,}{each.memory:8,}{each.dead:6}{each.memory_mb:12,}"
        )
    archive, memory = (max(getattr(each, name) for each in result.samples) for name in ("archive", "memory"))
    yield f"deepest: archive {archive:,}, memory {memory:,}; left {result.left}"
    yield f"calls {result.asked:,}, acknowledged {result.acknowledged:,}, remembered {result.remembered:,}"
    yield f"calls a second: {result.asked_per_second:g} asked, {result.reached_per_second:g} reached"
    yield f"{result.seconds:.0f} s; answers by status {dict(result.answers)}, median {result.answer_ms} ms"
    yield from growth(result)
    yield f"memory of all functions, last / first: {result.samples[-1].memory_mb / result.samples[0].memory_mb:.2f}"
    used = cores(result.samples)
    yield f"cores in use: emulator {used.emulator:.2f} (at most 1), functions {used.workers:.2f}, of {os.cpu_count()}"
    yield verdict(result)
    yield from in_flight()


def is_held(result: Result) -> bool:
    return result.reached_per_second > 0.95 * result.asked_per_second


def growth(result: Result) -> Iterator[str]:
    """Only if the rate was held: else the last calls pay for the backlog of all."""
    first, last = first_and_last(result.samples)
    costs = {"emulator": (first.emulator, last.emulator), "functions": (first.workers, last.workers)}
    for name, (before, after) in costs.items() if is_held(result) else ():
        yield f"CPU a call, {name}: last hundred / first {after / (before or 1):.2f} (first: {before:.0f} ms)"


def verdict(result: Result) -> str:
    if is_held(result):
        return "bottleneck: none at this rate, it was held; --per-second asks for more"
    return "bottleneck: this machine, whose cores the emulator, the functions and the sender share"


def run(number: int, per_second: float, seed: int, say: Callable[[str], None], warm_up: int = WARM_UP) -> Result:
    with HostedMem0(KEY) as mem0, MortalAws() as aws:
        return Run(aws, mem0, say).run(number, per_second, seed, warm_up)


def say(line: str) -> None:
    print(f"{time.strftime('%X')} {line}", file=sys.stderr)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--calls", type=int, default=2000)
    parser.add_argument("--per-second", type=float, default=12)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", type=Path, help="write the result to this file too")
    options = parser.parse_args(arguments)
    result = run(options.calls, options.per_second, options.seed, say)
    print("\n".join(show(result)))
    if options.json:
        options.json.write_text(json.dumps(asdict(result), indent=2))
    return 0 if result.left == 0 and result.remembered == result.acknowledged else 1


if __name__ == "__main__":
    sys.exit(main())
