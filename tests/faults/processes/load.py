"""Sustained webhooks against the embedded AWS: the depth of the queues, and whether a call costs more after thousands.

    python -m tests.faults.processes.load --calls 2000

The emulator is the bottleneck: one process with one event loop, which serves each request of every function. So the
figures say how the queues take a load that is too high, and whether time and memory grow with the number of calls.
They do not say what AWS does. The limit of messages in flight is worked out on paper (`in_flight`).
"""

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from threading import Event, Thread

from scripts.embedded.deployment import deploy
from tests.faults.processes.aws import MortalAws, short_timeouts
from tests.faults.processes.calls import Call, make_calls, schedule
from tests.faults.processes.count import QUEUES, Deployed
from tests.faults.processes.in_flight import in_flight
from tests.faults.processes.sender import Sender
from tests.mem0_stand_in import HostedMem0

KEY, NAME = "m0-load", "load"
VERBATIM = {"MemoryInference": "false"}  # Mem0 answers at once; with inference a writer waits a second for it
WARM_UP = 20
SENDING_SECONDS, REST_SECONDS = 180.0, 50.0
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


@dataclass(frozen=True)
class Hundred:
    """The calls of a hundred in the order in which they were answered, and in which they were remembered."""

    answer_ms: float  # the median
    seconds_per_call: float  # from the first that was remembered to the last


@dataclass(frozen=True)
class Result:
    asked: int
    acknowledged: int
    remembered: int
    left: int  # messages in queues and dead-letter queues at the end
    asked_per_second: float
    reached_per_second: float
    seconds: float
    emulator_cpu: float  # the cores that the emulator itself used while webhooks were sent
    answers: Mapping[int, int]
    hundreds: Sequence[Hundred]
    samples: Sequence[Sample]

    @property
    def growth(self) -> Hundred:
        """The last hundred divided by the first."""
        first, last = self.hundreds[0], self.hundreds[-1]
        return Hundred(last.answer_ms / first.answer_ms, last.seconds_per_call / first.seconds_per_call)


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
            begun, cpu = time.monotonic(), self.aws.cpu_seconds()
            sender.send(schedule(calls, seed, per_second, audio=False), begun + SENDING_SECONDS)
            sending, cpu = time.monotonic() - begun, self.aws.cpu_seconds() - cpu
            self.say(f"all sent after {sending:.0f} s")
            self.stack.rest(REST_SECONDS, self.say)
        times = remembered_at(self.mem0, calls)
        return Result(
            number, len(sender.acknowledged), len(times), sum(map(self.stack.depth, QUEUES)), per_second,
            round(sender.answers[200] / sending, 2), round(time.monotonic() - begun, 1), round(cpu / sending, 2),
            dict(sender.answers), hundreds(sender.seconds, times), self.samples,
        )  # fmt: skip

    @contextmanager
    def sampling(self, sender: Sender) -> Iterator[None]:
        """Take a sample each second in the time of the block."""
        over, begun = Event(), time.monotonic()

        def sample() -> None:
            while not over.wait(1):
                archive, memory, *dead = map(self.stack.depth, QUEUES)
                second, kept = round(time.monotonic() - begun), self.aws.memory_bytes() // 1_000_000
                self.samples.append(Sample(second, len(sender.acknowledged), archive, memory, sum(dead), kept))

        thread = Thread(target=sample)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join(STOP_SECONDS)


def remembered_at(mem0: HostedMem0, calls: Sequence[Call]) -> list[float]:
    """When Mem0 got each call's semantic memory, in unix seconds."""
    wanted = {call.conversation_id for call in calls}
    found = [memory for caller in {call.caller for call in calls} for memory in mem0.memories(f"+{caller}")]
    times = {
        each["metadata"]["conversation_id"]: datetime.fromisoformat(each["created_at"]).timestamp()
        for each in found
        if each["metadata"]["type"] == "semantic"
    }
    return sorted(times[id] for id in wanted & times.keys())


def hundreds(answers: Sequence[float], times: Sequence[float]) -> list[Hundred]:
    """Whole hundreds only; a run of less than that is one."""
    size = max(2, min(100, len(times)))
    return [
        Hundred(
            round(statistics.median(answers[start : start + size]) * 1000, 1),
            round((times[start + size - 1] - times[start]) / (size - 1), 4),
        )
        for start in range(0, len(times) - size + 1, size)
    ]


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
    yield f"a second: {result.asked_per_second:g} calls asked, {result.reached_per_second:g} answered (with repeats)"
    yield f"{result.seconds:.0f} s; answers by status {dict(result.answers)}"
    growth = result.growth
    yield f"last hundred / first: answer {growth.answer_ms:.2f}, time per remembered call {growth.seconds_per_call:.2f}"
    first, last = result.samples[0], result.samples[-1]
    yield f"memory of all workers, last sample / first: {last.memory_mb / max(1, first.memory_mb):.2f}"
    yield f"bottleneck: the emulator, one thread that serves all requests; it used {result.emulator_cpu:.2f} of a core"
    yield from in_flight()


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
