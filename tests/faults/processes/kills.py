"""Kills the functions' processes and the embedded AWS itself under load, and counts what was lost or doubled.

    python -m tests.faults.processes.kills --seed 1 --calls 300

Real processes, real signed HTTP: template.yaml on the embedded AWS, with short timeouts. The same seed gives the same
calls and the same plan of deliveries and kills; what a kill meets is up to the processes. Exit code 1 if anything was
lost, doubled or left.

A worker is killed with SIGKILL, as Lambda's machines fail. The emulator is killed with its state kept, because AWS does
not forget what it accepted (`aws` says how): its services break off all requests and are away for seconds.
Not proved here: that AWS keeps its promises, and what happens to a call whose audio was never acknowledged, which the
hourly pass fetches from ElevenLabs (tests/pipeline/test_completeness.py).
"""

import argparse
import json
import re
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, redirect_stderr, redirect_stdout
from dataclasses import asdict, dataclass
from io import StringIO
from pathlib import Path
from random import Random
from threading import Event

import scripts.operations.stack
from scripts.embedded.deployment import deploy
from scripts.operations.app import main as ops
from tests.faults.processes.aws import MortalAws, short_timeouts
from tests.faults.processes.background import beside
from tests.faults.processes.calls import make_calls, schedule
from tests.faults.processes.count import DLQS, Deployed, Findings, count, staged_only
from tests.faults.processes.sender import Sender
from tests.mem0_stand_in import HostedMem0

KEY, NAME = "m0-kills", "kills"
MEM0_SECONDS = 0.3  # until Mem0 shows what it accepted
ANSWER_SECONDS = 0.5  # until it answers; in this time a kill leaves it unknown whether Mem0 has the memory
FEW_RECEIVES = {"ArchiveMaxReceives": "2", "MemoryMaxReceives": "3"}  # so that operators have dead letters to redrive
REDRIVES = 3  # rounds
REST_SECONDS = 120.0
STOP_SECONDS = 60.0  # for the last restart of the emulator
SHOWN = 20  # findings of one kind
BROKEN_OFF = re.compile(r"Worker process died|Broken pipe|Worker returned no response")


@dataclass(frozen=True)
class Plan:
    seed: int = 1
    calls: int = 300
    per_second: float = 5
    worker_kills: int = 40
    emulator_kills: int = 3


@dataclass(frozen=True)
class Result:
    plan: Plan
    seconds: float
    requests: int
    answers: dict[str, int]  # by status; "none": no answer
    acknowledged: int
    never_acknowledged: int
    worker_kills: dict[str, int]  # by function
    broken_off: int  # invocations that a kill of a worker ended
    emulator_kills: int
    redriven: int
    staged_only: int  # bodies that were staged and never handed on; not acknowledged, the hourly pass finds them
    findings: Findings


class Run:
    """One run on a stack that is up. `say` gets each step of the progress."""

    def __init__(self, plan: Plan, aws: MortalAws, mem0: HostedMem0, say: Callable[[str], None]) -> None:
        self.plan, self.aws, self.mem0, self.say = plan, aws, mem0, say
        self.stack = Deployed(aws.client, deploy(aws, NAME, short_timeouts(mem0.url, KEY) | FEW_RECEIVES))
        self.calls = make_calls(plan.seed, plan.calls)
        mem0.plan(*[f"hang_after:{ANSWER_SECONDS}"] * 4 * plan.calls)  # two adds a call, and some once more
        self.worker_kills: Counter[str] = Counter()
        self.emulator_kills = self.redriven = 0

    def run(self) -> Result:
        begun, deliveries = time.monotonic(), schedule(self.calls, self.plan.seed, self.plan.per_second)
        self.say(f"sending {len(deliveries)} bodies of {len(self.calls)} calls")
        with Sender(self.stack.outputs) as sender, self.faults(deliveries[-1].at):
            sender.send(deliveries)
        self.say("all sent, and the faults are over")
        self.stack.rest(REST_SECONDS, self.say)
        self.redrive()
        self.say("counting")
        return self.result(sender, count(self.stack, self.mem0, self.calls, sender.acknowledged), begun)

    def faults(self, seconds: float) -> AbstractContextManager[None]:
        """The kills of the plan, at random moments of so many seconds; none once the block has ended."""

        def kill(over: Event) -> None:
            begun = time.monotonic()
            for at, what in self.moments(seconds):
                if over.wait(max(0, begun + at - time.monotonic())):
                    return
                what()

        return beside(kill, STOP_SECONDS)

    def moments(self, seconds: float) -> list[tuple[float, Callable[[], None]]]:
        random = Random(f"{self.plan.seed} kills")
        workers = [
            (random.uniform(0, seconds), lambda: self.kill_worker(random)) for _ in range(self.plan.worker_kills)
        ]
        crashes = [(random.uniform(0, seconds), self.crash) for _ in range(self.plan.emulator_kills)]
        return sorted([*workers, *crashes], key=lambda moment: moment[0])

    def kill_worker(self, random: Random) -> None:
        if killed := self.aws.kill_worker(random):
            self.worker_kills[killed] += 1

    def crash(self) -> None:
        self.aws.crash()
        self.emulator_kills += 1
        self.say(f"killed the emulator; {sum(self.worker_kills.values())} workers so far")

    def redrive(self) -> None:
        """What the operators do about dead letters: `ops dlq redrive`, until there are none."""
        for name, queue in list(DLQS.items()) * REDRIVES:
            if letters := self.stack.depth(queue):
                self.say(f"redriving {letters} of {queue}")
                run_ops(self.stack.outputs, "dlq", "redrive", name, "--yes")
                self.redriven += letters
                self.stack.rest(REST_SECONDS, self.say)

    def result(self, sender: Sender, findings: Findings, begun: float) -> Result:
        return Result(
            self.plan, round(time.monotonic() - begun, 1), sender.answers.total(),
            {str(status or "none"): number for status, number in sorted(sender.answers.items())},
            len(sender.acknowledged), 2 * len(self.calls) - len(sender.acknowledged),
            dict(self.worker_kills), len(BROKEN_OFF.findall(self.aws.log_text())), self.emulator_kills,
            self.redriven, staged_only(self.stack, self.calls, sender.acknowledged), findings,
        )  # fmt: skip


def run_ops(outputs: Mapping[str, str], *words: str) -> None:
    """One command of scripts/ops on a stack of ours. Raises RuntimeError if it fails."""
    out = StringIO()
    with tempfile.TemporaryDirectory() as folder, redirect_stdout(out), redirect_stderr(out):
        path = Path(folder) / "outputs.json"
        path.write_text(json.dumps(dict(outputs)))
        scripts.operations.stack.OUTPUTS = path
        if ops([*words, "--local", "--json"]):
            raise RuntimeError(out.getvalue())


def run(plan: Plan, say: Callable[[str], None], log: Path | None = None) -> Result:
    if log:
        log.write_bytes(b"")
    with HostedMem0(KEY, delay=MEM0_SECONDS) as mem0, MortalAws(log=log) as aws:
        return Run(plan, aws, mem0, say).run()


def show(result: Result) -> Iterator[str]:
    yield f"calls sent              {result.plan.calls:6}   seed {result.plan.seed}, {result.seconds:.0f} s"
    yield f"requests                {result.requests:6}   {result.answers}"
    yield f"bodies acknowledged     {result.acknowledged:6}   {result.never_acknowledged} never were"
    yield f"kills of workers        {sum(result.worker_kills.values()):6}   {result.worker_kills}"
    yield f"invocations broken off  {result.broken_off:6}"
    yield f"kills of the emulator   {result.emulator_kills:6}"
    yield f"redriven by operators   {result.redriven:6}"
    yield f"staged, not handed on   {result.staged_only:6}   not acknowledged; the hourly pass hands them on"
    for name, found in vars(result.findings).items():
        yield f"{name:<24}{len(found):6}"
        yield from (f"    {each}" for each in found[:SHOWN])


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in vars(Plan()).items():
        parser.add_argument(f"--{name.replace('_', '-')}", type=type(default), default=default)
    parser.add_argument("--log", type=Path, help="keep the emulator's log in this file")
    parser.add_argument("--json", type=Path, help="write the result to this file too")
    options = vars(parser.parse_args(arguments))
    log, as_json = options.pop("log"), options.pop("json")
    result = run(Plan(**options), lambda line: print(f"{time.strftime('%X')} {line}", file=sys.stderr), log)
    print("\n".join(show(result)))
    if as_json:
        as_json.write_text(json.dumps(asdict(result), indent=2))
    return 0 if result.findings.are_none else 1


if __name__ == "__main__":
    sys.exit(main())
