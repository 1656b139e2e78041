"""Which outward calls fail in a schedule, and how."""

from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import Any

from botocore.exceptions import ClientError, ConnectionClosedError, EndpointConnectionError, ReadTimeoutError

from tests.faults.simulator.scheduler import Process

# What happens to a call: nothing is done (`before`), or all of it and only the answer is lost (`after`); the service
# answers with an error, before or after the effect; it asks to wait; it refuses; a body breaks off; the answer is late.
KINDS = {
    "before": 3, "after": 4, "error_before": 2, "error_after": 2, "throttled": 2, "denied": 1, "broken_off": 2,
    "late": 3,
}  # fmt: skip
MEANINGS = {
    "before": "the request never arrives", "after": "the request has its effect, and its answer is lost",
    "error_before": "the service answers with an error, and does nothing",
    "error_after": "the service answers with an error, although the request has its effect",
    "throttled": "the service asks to wait", "denied": "the service refuses the request",
    "broken_off": "the request has its effect, and its answer breaks off",
    "late": "the effect is late. If the client does not wait so long, nobody hears of it",
    "dies before": "the process is killed while the request is on its way",
    "its message is not deleted": "the queue delivers the message again",
}  # fmt: skip
LATE = (1, 5, 5, 30, 30, 90, 170, 400)  # seconds
OPERATIONS = {
    "s3": ("", "put_object", "get_object", "put_object_tagging"), "sqs": ("", "send_message"), "sns": ("",),
    "dynamodb": ("", "update_item", "get_item", "query"), "secretsmanager": ("",),
    "mem0": ("", "add", "event", "list"), "elevenlabs": ("", "list", "get", "audio"),
}  # fmt: skip
THROTTLES = {
    "s3": "SlowDown", "sqs": "ThrottlingException", "sns": "Throttling", "secretsmanager": "ThrottlingException",
    "dynamodb": "ProvisionedThroughputExceededException",
}  # fmt: skip
RETRIED = ("before", "after", "too_late", "error_before", "error_after", "throttled")  # by botocore's standard mode
READ_ONLY = ("get_", "head_", "list_", "query", "batch_get", "receive_")


@dataclass(frozen=True)
class Outage:
    """A service, or one of its operations, that fails for a while."""

    service: str
    operation: str
    begin: float
    end: float
    kind: str


class Faults:
    """The faults of one schedule. Each process decides by its own random numbers, in the order of its calls.

    `spared` are the faults, by process and number of the call, that are left out to make a trace smaller.
    """

    def __init__(
        self, random: Random, begin: float, end: float, spared: frozenset[tuple[str, int]] = frozenset()
    ) -> None:
        self.begin, self.end, self.spared = begin, end, spared
        self.rate = random.choice((0, 0.01, 0.03, 0.08, 0.2))
        self.stalls = random.choice((0, 0, 0, 0.05, 0.2))  # how often a call is late and nothing else
        self.deaths = random.choice((0, 0, 0.05, 0.15, 0.35))
        self.doubles = random.choice((0, 0.05, 0.3))
        self.lost_deliveries = random.choice((0, 0, 0.1))
        self.outages = [self._outage(random) for _ in range(random.choice((0, 0, 1, 1, 2)))]
        self._kinds = list(KINDS)
        self._weights = [
            weight * random.choice((0.01, 1, 1, 5)) for weight in KINDS.values()
        ]  # each schedule has its own
        self.injected: list[tuple[str, int]] = []

    def _outage(self, random: Random) -> Outage:
        service = random.choice(list(OPERATIONS))
        begin = random.uniform(self.begin, self.end)
        kind = random.choice(("before", "after", "error_before", "error_after", "throttled", "denied"))
        length = random.choice((60, 900, 4000, 9000))
        return Outage(service, random.choice(OPERATIONS[service]), begin, begin + length, kind)

    def chance(self, process: Process, now: float, rate: float) -> bool:
        """Whether something of this rate happens to the process; never after the faults have stopped."""
        return process.random.random() < rate and now < self.end

    def choose(self, process: Process, service: str, operation: str, now: float) -> str | None:
        """The fault of the process's next call, or None."""
        number = process.random.random()
        if now >= self.end:
            return None
        kind = None
        if number < self.rate:
            kind = process.random.choices(self._kinds, self._weights)[0]
        elif number > 1 - self.stalls:
            kind = "late"
        for each in self.outages:
            if each.service == service and each.operation in ("", operation) and each.begin <= now < each.end:
                kind = each.kind
        if kind is None or (process.name, process.calls) in self.spared:
            return None
        self.injected.append((process.name, process.calls))
        return kind


def seconds_of(kind: str | None, random: Random, read_timeout: float) -> float:
    """How long the call takes."""
    if kind == "late":
        return random.choice(LATE)
    return read_timeout if kind in ("before", "after") else random.expovariate(30)


def fail_aws(kind: str, service: str, operation: str, effect: Callable[[], Any]) -> Any:
    """Do what the fault leaves of a call to AWS, and raise what boto3 raises. An answer that is late returns."""
    if kind in ("after", "error_after", "late", "broken_off"):
        answer = effect()
    if kind == "late":
        return answer
    if kind == "before":
        raise EndpointConnectionError(endpoint_url=f"https://{service}")
    if kind in ("after", "too_late"):
        raise ReadTimeoutError(endpoint_url=f"https://{service}")
    if kind == "broken_off":
        if operation == "get_object":
            return answer | {"Body": _BrokenBody()}
        raise ConnectionClosedError(endpoint_url=f"https://{service}")
    codes = {"throttled": THROTTLES.get(service, "Throttling"), "denied": "AccessDenied"}
    raise ClientError({"Error": {"Code": codes.get(kind, "InternalError"), "Message": "planned"}}, operation)


class _BrokenBody:
    def read(self) -> bytes:
        raise ConnectionClosedError(endpoint_url="https://s3")

    def iter_chunks(self, size: int) -> Any:
        yield b"ID3"
        raise ConnectionClosedError(endpoint_url="https://s3")
