"""The world that the functions run in: virtual time, in-memory AWS and hosts, and calls that fail as the seed says."""

import contextlib
import datetime as real
import logging
import random
import sys
import time as real_time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import cache, partial
from random import Random
from types import ModuleType, SimpleNamespace, TracebackType
from typing import Any, Self

import boto3
from botocore.exceptions import BotoCoreError, ClientError
from greenlet import getcurrent

from scripts.embedded.elevenlabs import ElevenLabsApi
from shared.observability import logger, metrics
from tests.conftest import forget
from tests.faults.services.client import Client
from tests.faults.services.dynamodb import DynamoDb, Table
from tests.faults.services.s3 import S3
from tests.faults.services.secrets import SecretsManager
from tests.faults.services.sns import Sns
from tests.faults.services.sqs import Sqs
from tests.faults.simulator import patching
from tests.faults.simulator.faults import RETRIED, Faults, fail_aws, seconds_of
from tests.faults.simulator.hosts import HOST_FAULTS, hosts
from tests.faults.simulator.scheduler import Crash, Fibre, Process, Scheduler
from tests.mem0_stand_in import Mem0Api

BEGIN = 1_772_550_000.0  # 2026-03-03T15:00:00Z
OURS = ("ingest.", "archiver.", "memory_writer.", "reconciler.", "shared.", "scripts.operations.")
MEM0_OUTCOMES = ("SUCCEEDED", "SUCCEEDED", "SUCCEEDED", "FAILED", "empty", "slow:2", "running:3")
LONGEST_ALONE = 30  # seconds that a request goes on after its client has stopped to wait
HOST_SECONDS = 15  # that the clients of Mem0 and ElevenLabs wait, at least
MOST_CALLS = 20_000  # of a schedule: more is a loop


class EndlessError(BaseException):
    """The schedule does not end. `except Exception` does not catch it."""


class World:
    """One schedule's world. `trace` collects a line for each outward call if it is a list."""

    def __init__(self, seed: str, faults: Callable[[Random], Faults], trace: list[str] | None = None) -> None:
        self.seed, self.trace = seed, trace
        self.random = Random(f"{seed}/world")
        self.scheduler = Scheduler(BEGIN)
        self.faults = faults(Random(f"{seed}/faults"))
        clock = lambda: self.scheduler.now  # noqa: E731
        self.s3, self.dynamodb, self.sqs = S3(clock), DynamoDb(clock), Sqs(clock, Random(f"{seed}/sqs"))
        self.sns, self.secrets = Sns(clock, self.sqs), SecretsManager(clock)
        numbers = iter(range(1, 10**9))
        self.mem0 = Mem0Api("m0-test", clock=clock, now=self.now, make_id=lambda: f"mem-{next(numbers)}")
        self.elevenlabs = ElevenLabsApi("xi-test")
        self._vary()
        self.calls = 0
        self.put: dict[str, bytes] = {}  # every payload that was ever stored
        self.sent: list[str] = []  # every message that was ever sent
        self.broken = ""  # why the schedule proves nothing: the simulator's own fault, or an endless loop
        self.locked: set[str] = set()  # keys that could not be deleted
        self.after_call: Callable[[str], None] = lambda _: None
        self.after_tag: Callable[[str], None] = lambda _: None

    def _vary(self) -> None:
        """What differs between schedules: how late an index and Mem0 are, how long pages are, what Mem0 fails to do."""
        choose = Random(f"{self.seed}/services").choice
        self.dynamodb.index_lag = choose((0, 0, 0.5, 5))
        self.dynamodb.most_per_page = choose((1, 2, 5000))
        self.dynamodb.most_per_batch = choose((1, 100))
        self.mem0.delay = choose((0, 0, 2, 60, 600))
        self.mem0.plan_events(*(choose(MEM0_OUTCOMES) for _ in range(6)))

    def now(self) -> real.datetime:
        return real.datetime.fromtimestamp(self.scheduler.now, real.timezone.utc)

    # Processes

    def process(self, name: str, seconds: float = float("inf")) -> Process:
        """A process of this name, which dies after so many seconds, or at a random call."""
        process = Process(name, Random(f"{self.seed}/{name}"), self.scheduler.now + seconds)
        process.dies_before = None
        if self.faults.chance(process, self.scheduler.now, self.faults.deaths):
            process.dies_before = 1 + int(process.random.random() ** 2 * 40)
        return process

    def sleep(self, seconds: float) -> None:
        self.scheduler.sleep(seconds)

    # Outward calls

    def outward(
        self, process: Process, service: str, operation: str, timeout: float, effect: Callable[[], Any], what: str = ""
    ) -> str | None:  # fmt: skip
        """Let a call travel: time passes, and the process may die. Returns how the call fails, if it does.

        A process that dies while its call travels does not know whether the call has its effect: half of them do. A
        call that is later than the client waits has its effect when nobody waits for it any more.
        """
        self.scheduler.check(process)
        process.calls += 1
        self.calls += 1
        if self.calls > MOST_CALLS:
            self.broken = f"more than {MOST_CALLS:,} requests"
            raise EndlessError
        kind = self.faults.choose(process, service, operation, self.scheduler.now)
        dies = process.calls == process.dies_before and (process.name, 0) not in self.faults.spared
        if self.trace is not None:
            self.note(process, f"{service}.{operation} {what}".rstrip(), "dies before" if dies else kind)
        seconds = seconds_of(kind, process.random, timeout)
        if kind == "late" and seconds > timeout:
            late = min(seconds, timeout + LONGEST_ALONE)
            self.scheduler.at(self.scheduler.now + late, partial(self._let_happen, service, effect))
            kind, seconds = "too_late", timeout
        try:
            self.sleep(seconds)
            if dies:
                self.faults.injected.append((process.name, 0))
                self.scheduler.kill(process)
                raise Crash
        except Crash:
            if kind in (None, "late") and process.random.random() < 0.5:
                self.note(process, f"{service}.{operation} has its effect, and nobody waits for it")
                self._let_happen(service, effect)
            raise
        return kind

    def _let_happen(self, service: str, effect: Callable[[], Any]) -> None:
        """A call's effect, whose answer nobody reads."""
        with contextlib.suppress(Exception):
            effect()
        self.after_call(service)

    def note(self, process: Process | str, text: str, kind: str | None = None) -> None:
        if self.trace is not None:
            at = real.datetime.fromtimestamp(self.scheduler.now, real.timezone.utc)
            name = process if isinstance(process, str) else process.name
            self.trace.append(f"{at:%d %H:%M:%S.%f}"[:-3] + f"  {name:34}  {text}" + (f"  !! {kind}" if kind else ""))

    def call_aws(self, service: str, config: Any, operation: str, parameters: dict[str, Any]) -> Any:
        """A call of boto3, with the attempts of its standard mode."""
        process = current()
        backend = getattr(self, {"secretsmanager": "secrets"}.get(service, service))
        retries = getattr(config, "retries", None) or {}
        attempts, timeout = retries.get("total_max_attempts", 3), getattr(config, "read_timeout", None) or 60
        effect = partial(self._do, backend, operation, parameters)
        for attempt in range(1, attempts + 1):
            what = described(parameters) if self.trace is not None else ""
            kind = self.outward(process, service, operation, timeout, effect, what)
            try:
                answer = effect() if kind is None else fail_aws(kind, service, operation, effect)
            except (ClientError, BotoCoreError):
                if (operation, kind) == ("delete_object", "denied"):
                    self.locked.add(parameters["Key"])
                if kind not in RETRIED or attempt == attempts:
                    raise
                self.sleep(process.random.uniform(0, 1) * min(2**attempt, 20))
                continue
            finally:
                self.after_call(service)
            return answer

    def _do(self, backend: Any, operation: str, parameters: dict[str, Any]) -> Any:
        try:
            answer = backend.call(operation, parameters)
        except NotImplementedError as error:  # our code may take it for an error of AWS
            self.broken = str(error)
            raise
        if operation == "put_object_tagging":
            self.after_tag(parameters["Key"])
        if operation == "put_object" and parameters["Key"].startswith("staging/"):
            self.put[parameters["Key"]] = self.s3.bytes_of(parameters["Key"])
        elif operation == "send_message":
            self.sent.append(parameters["MessageBody"])
        return answer

    @property
    def is_faulty(self) -> bool:
        return self.scheduler.now < self.faults.end

    def call_host(self, service: str, operation: str, request: Any, effect: Callable[[], Any]) -> Any:
        """A call of Mem0's or ElevenLabs' API."""
        kind = self.outward(current(), service, operation, HOST_SECONDS, effect)
        return effect() if kind in (None, "late") else HOST_FAULTS[kind](request, effect)

    def client(self, service: str, config: Any = None, **_: Any) -> Any:
        return Client(service, partial(self.call_aws, service, config))

    def resource(self, service: str, config: Any = None, **_: Any) -> Any:
        call = partial(self.call_aws, service, config)
        return SimpleNamespace(Table=lambda name: Table(name, call))

    # The real program in it

    @contextlib.contextmanager
    def entered(self) -> Iterator[Self]:
        """Replace the clock, the threads, boto3 and the network by this world's."""
        with contextlib.ExitStack() as stack:
            put = partial(patching.put, stack)
            stack.callback(random.setstate, random.getstate())
            random.seed(f"{self.seed}/libraries")  # the pauses of httpx-retries
            for name in ("client", "resource"):
                put(boto3, name, getattr(self, name))
            put(real_time, "sleep", self._sleep)
            put(real_time, "monotonic", lambda: self.scheduler.now)
            put(real_time, "time", lambda: self.scheduler.now)
            clock = _clock(self)
            replacements = {"datetime": clock, "ThreadPoolExecutor": partial(FibrePool, self), "random": _RANDOM}
            for module, name in replaced():
                put(module, name, replacements[name])
            put(metrics.provider, "flush_metrics", lambda **_: metrics.clear_metrics())
            stack.enter_context(contextlib.redirect_stdout(_Silence()))
            stack.enter_context(self._logs())
            stack.enter_context(hosts(self.mem0, self.elevenlabs, self.call_host))
            forget()
            yield self
        forget()

    @contextlib.contextmanager
    def _logs(self) -> Iterator[None]:
        """The functions' log goes into the trace; without a trace nothing is logged."""
        root, before = logger._logger, logger._logger.level
        handlers = root.handlers[:]
        root.handlers[:] = [] if self.trace is None else [_TraceHandler(self)]
        root.setLevel(logging.CRITICAL if self.trace is None else logging.INFO)
        try:
            yield
        finally:
            root.handlers[:] = handlers
            root.setLevel(before)

    def _sleep(self, seconds: float) -> None:
        if isinstance(getcurrent(), Fibre):
            self.sleep(seconds)


class FibrePool:
    """ThreadPoolExecutor, with a fibre for each task: tasks interleave at their outward calls."""

    def __init__(self, world: World, _workers: int = 0) -> None:
        self._world, self._fibres = world, []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, _error: BaseException | None, _: TracebackType | None) -> None:
        if kind is None or not issubclass(kind, Crash):
            self._world.scheduler.join(self._fibres)

    def submit(self, work: Callable[..., Any], *arguments: Any) -> "FibreFuture":
        fibre = self._world.scheduler.start(current(), partial(work, *arguments))
        self._fibres.append(fibre)
        return FibreFuture(self._world, fibre)

    def map(self, work: Callable[..., Any], *iterables: Any) -> Iterator[Any]:
        futures = [self.submit(work, *each) for each in zip(*iterables, strict=False)]
        return (future.result() for future in futures)


class FibreFuture:
    def __init__(self, world: World, fibre: Fibre) -> None:
        self._world, self._fibre = world, fibre

    def exception(self) -> BaseException | None:
        self._world.scheduler.join([self._fibre])
        if isinstance(self._fibre.error, Crash):
            raise self._fibre.error
        return self._fibre.error

    def result(self) -> Any:
        error = self.exception()
        if error:
            raise error
        return self._fibre.result


def current() -> Process:
    """The process of the running fibre."""
    fibre = getcurrent()
    assert isinstance(fibre, Fibre), "outward calls are made by fibres"
    return fibre.process


def described(parameters: dict[str, Any]) -> str:
    """What a call is about, for a trace."""
    if "Key" in parameters:
        key = parameters["Key"]
        return f"{key.get('conversation_id')} {key.get('item')}" if isinstance(key, dict) else str(key)
    if "Item" in parameters:
        return f"{parameters['Item'].get('conversation_id')} {parameters['Item'].get('item')}"
    return str(parameters.get("QueueUrl") or parameters.get("Prefix") or parameters.get("IndexName") or "")


@cache
def replaced() -> list[tuple[ModuleType, str]]:
    """Where our modules have the clock, threads or random numbers."""
    real_ones = {"datetime": real.datetime, "ThreadPoolExecutor": ThreadPoolExecutor, "random": random}
    ours = [module for name, module in sys.modules.items() if name.startswith(OURS)]
    return [(each, name) for each in ours for name, value in real_ones.items() if vars(each).get(name) is value]


_RANDOM = SimpleNamespace(uniform=lambda low, high: current().random.uniform(low, high))


def _clock(world: World) -> type[real.datetime]:
    class Meta(type):
        def __instancecheck__(cls, instance: object) -> bool:
            return isinstance(instance, real.datetime)

    class VirtualDatetime(real.datetime, metaclass=Meta):
        @classmethod
        def now(cls, tz: real.tzinfo | None = None) -> real.datetime:  # type: ignore[override]
            return real.datetime.fromtimestamp(world.scheduler.now, tz)

    return VirtualDatetime


class _TraceHandler(logging.Handler):
    def __init__(self, world: World) -> None:
        super().__init__()
        self._world = world

    def emit(self, record: logging.LogRecord) -> None:
        error = record.exc_info[1] if record.exc_info else None
        known = vars(record)
        about = {name: known[name] for name in ("reason", "error", "step", "outcome") if name in known}
        text = " ".join([record.getMessage(), *(f"{name}={value}" for name, value in about.items())])
        self._world.note(current(), f"    says: {text}" + (f" ({type(error).__name__}: {error})" if error else ""))


class _Silence:
    """Where the functions' metrics go."""

    def write(self, text: str) -> int:
        return len(text)

    def flush(self) -> None:
        pass
