"""The archive has all calls of ElevenLabs, under random faults of webhooks, API requests and our functions."""

import base64
import json
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import count, cycle
from pathlib import Path
from random import Random
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

import archiver.handler
import reconciler.handler
from archiver.handler import lambda_handler
from reconciler.handler import reconcile
from scripts.embedded.elevenlabs import ElevenLabs
from shared.errors import ElevenLabsError
from shared.times import utc
from tests.archiver.conftest import stage
from tests.conftest import Stack, fixture_body, sqs_event
from tests.reconciler.conftest import NOW, handle_announcement
from tests.schedules import Crash

examples = count(1)
FOLDERS = {"02": "12025550123", "05": "no-phone"}  # a phone call and a web call, by their fixtures
NEVER = 99
RECEIVES = 5  # after which a message is in the dead-letter queue


@dataclass(frozen=True)
class Delivery:
    """A webhook that arrives in this round, or later if its call is not over yet.

    `stranded`: ingest crashed after S3 and before SQS, so that the body is only in S3.
    """

    round: int
    is_stranded: bool


@dataclass(frozen=True)
class Sound:
    """A call's recording: the first round in which the API has it, and its webhooks."""

    has_audio: bool | None
    in_api: int
    webhooks: list[Delivery]


@dataclass(frozen=True)
class Plan:
    """A call: its form, the round in which it ends, and its webhooks (none, one or two)."""

    fixture: str
    status: str
    over: int
    minutes_ago: int
    sound: Sound
    webhooks: list[Delivery]


@dataclass(frozen=True)
class Outcome:
    """The processing of a message: how often, and the call to AWS before which the worker crashes."""

    times: int = 1
    crash: int | None = None


@dataclass(frozen=True)
class Round:
    """A step in time: webhooks, a scheduled pass, and a number of rounds over all messages; by default without faults.

    The pass has time for a number of pages. `loses_answers`: each write of the reconciler is sent twice.
    """

    minutes: int
    faults: tuple[tuple[str, str, int], ...] | list[tuple[str, str, int]] = ()
    crash: int | None = None
    pages: int = NEVER
    loses_answers: bool = False
    waves: int = 9
    outcomes: tuple[Outcome, ...] | list[Outcome] = (Outcome(),)
    seed: int = 0


# Long enough for a day to pass after the first failed request for a recording, and for all queued requests.
CALM = [Round(minutes) for minutes in (60, 200, 25 * 60, 60, 200, 25 * 60, 60)]


@dataclass(frozen=True)
class Call:
    """A call of one example."""

    id: str
    ended: datetime
    plan: Plan

    @property
    def path(self) -> str:
        return f"{FOLDERS[self.plan.fixture]}/{self.id}"

    @property
    def is_over(self) -> bool:
        return self.plan.over != NEVER

    def data(self, source: str, status: str | None = None) -> dict[str, Any]:
        data = json.loads(fixture_body(self.plan.fixture))["data"]
        del data["has_audio"]
        has_audio = {} if self.plan.sound.has_audio is None else {"has_audio": self.plan.sound.has_audio}
        times = {"start_time_unix_secs": int(self.ended.timestamp()) - 60, "call_duration_secs": 60}
        named = {"conversation_id": self.id, "status": status or self.plan.status, "source_of_truth": source}
        return data | named | has_audio | {"metadata": data["metadata"] | times}

    def mp3(self, source: str) -> bytes:
        return b"\xff\xfb" + f"{self.id} by {source} ".encode() * 40

    def webhooks(self) -> Iterator[tuple[Delivery, dict[str, Any]]]:
        timestamp = int(self.ended.timestamp()) + 20
        transcript = {"type": "post_call_transcription", "event_timestamp": timestamp, "data": self.data("webhook")}
        sound = {"conversation_id": self.id, "full_audio": base64.b64encode(self.mp3("webhook")).decode()}
        yield from ((each, transcript) for each in self.plan.webhooks)
        audio = {"type": "post_call_audio", "event_timestamp": timestamp, "data": sound}
        yield from ((each, audio) for each in self.plan.sound.webhooks)

    def archived(self) -> dict[str, Any]:
        """The objects that must be in the archive at the end: a webhook's version wins over the API's."""
        sound = self.plan.sound
        objects: dict[str, Any] = {f"{self.path}.json": self.data("webhook" if self.plan.webhooks else "api")}
        if sound.webhooks or sound.in_api != NEVER:
            objects[f"{self.path}.mp3"] = self.mp3("webhook" if sound.webhooks else "api")
        return objects if self.is_over else {}

    @property
    def audio(self) -> str | None:
        """The value in the record at the end."""
        if not self.is_over:
            return None
        without = "none" if self.plan.sound.has_audio is False else "unavailable"
        return "archived" if f"{self.path}.mp3" in self.archived() else without

    def most_versions(self) -> dict[str, int]:
        sound = self.plan.sound
        most = {".json": 1 + bool(self.plan.webhooks), ".mp3": bool(sound.webhooks) + (sound.in_api != NEVER)}
        return {f"{self.path}{extension}": number for extension, number in most.items()}


@dataclass
class Message:
    """A message of ArchiveQueue or AudioQueue."""

    is_claim_check: bool
    body: str
    receives: int = 0


class Process:
    """Our running code. It may be killed before its n-th call to AWS; no later call reaches AWS."""

    def __init__(self) -> None:
        self._calls_left: int | None = None
        self.loses_answers = False

    def send_again(self, attempts: int, **_: object) -> int | None:
        return 0 if self.loses_answers and attempts == 1 else None

    def before_call(self, **_: object) -> None:
        if self._calls_left is not None:
            self._calls_left -= 1
            if self._calls_left < 0:
                raise Crash

    @contextmanager
    def killed(self, before: int | None) -> Iterator[None]:
        self._calls_left = before
        try:
            yield
        finally:
            self._calls_left = None


class World:
    """The calls of one example, its clock, and its queued messages."""

    def __init__(self, aws: Stack, elevenlabs: ElevenLabs, context: Any, process: Process, plans: list[Plan]) -> None:
        self.aws, self.elevenlabs, self.context, self.process = aws, elevenlabs, context, process
        self.example = next(examples)
        self.start = self.now = NOW + timedelta(days=7 * self.example)
        ends = [self.start - timedelta(minutes=plan.minutes_ago) for plan in plans]
        ids = [f"conv_{self.example}_{number}" for number in range(len(plans))]
        self.calls = [Call(*each) for each in zip(ids, ends, plans, strict=True)]
        self.messages: list[Message] = []
        self.report: dict[str, Any] = {}
        elevenlabs.conversations.clear()
        elevenlabs.audio.clear()
        reconciler.handler.bookmarks().write(
            "listed", utc(self.start - timedelta(days=6))
        )  # the bookmark of the last good pass

    def run_round(self, number: int, round_: Round) -> None:
        self.now += timedelta(minutes=round_.minutes)
        self.tell_api(number)
        self.plan_faults(round_)
        self.deliver(number)
        self.process.loses_answers = round_.loses_answers
        before = self.pages_listed()
        with suppress(Crash), self.process.killed(round_.crash):
            self.report = reconcile(self.now, lambda: self.pages_listed() - before <= round_.pages)
        for _ in range(round_.waves):
            self.receive()
            if not self.messages:
                break
            self.work(round_)

    def pages_listed(self) -> int:
        return sum(request.route == "list" for request in self.elevenlabs.requests)

    def tell_api(self, number: int) -> None:
        for call in self.calls:
            is_over = number >= call.plan.over
            has_sound = is_over and number >= call.plan.sound.in_api
            data = call.data("api", None if is_over else "in-progress")
            self.elevenlabs.add(data, call.mp3("api") if has_sound else None)

    def plan_faults(self, round_: Round) -> None:
        for planned in self.elevenlabs._faults.values():
            planned.clear()
        for route, fault, times in round_.faults:
            self.elevenlabs.plan(route, *fault.split(" ") * times)

    def deliver(self, number: int) -> None:
        for call in self.calls:
            for delivery, webhook in call.webhooks():
                if number == max(delivery.round, call.plan.over):
                    check = stage(self.aws, webhook, now=self.now)
                    self.messages += [] if delivery.is_stranded else [Message(True, check)]

    def receive(self) -> None:
        self.messages += [Message(True, each["Body"]) for each in self.aws.take("ArchiveQueueUrl")]
        announced = filter(is_for_audio, self.aws.take("Announcements"))
        self.messages += [Message(False, each["Body"]) for each in (*announced, *self.aws.take("AudioQueueUrl"))]

    def work(self, round_: Round) -> None:
        """Process every message once, in any order. Unfinished ones stay in the queue."""
        Random(round_.seed).shuffle(self.messages)
        outcomes = zip(self.messages, cycle(round_.outcomes), strict=False)
        self.messages = [
            message for message, outcome in outcomes if not self.is_handled(message, outcome, round_ in CALM)
        ]

    def is_handled(self, message: Message, outcome: Outcome, is_redriven: bool) -> bool:
        if message.receives >= RECEIVES and not is_redriven:
            return False
        message.receives += min(outcome.times, 1)
        try:
            with self.process.killed(outcome.crash):
                for _ in range(outcome.times):
                    self.handle(message)
        except (Crash, ElevenLabsError):
            return False
        return outcome.times > 0

    def handle(self, message: Message) -> None:
        if message.is_claim_check:
            assert lambda_handler(sqs_event(message.body), self.context) == {"batchItemFailures": []}
        else:
            handle_announcement(message.body, self.now)

    def check(self) -> None:
        """The archive has everything that ElevenLabs has, and no work is left."""
        expected = {key: body for call in self.calls for key, body in call.archived().items()}
        prefixes = [f"{folder}/conv_{self.example}_" for folder in FOLDERS.values()]
        keys = {key for each in prefixes for key in self.aws.object_keys(each)}
        read = {".json": self.aws.json, ".mp3": self.aws.body}
        assert {key: read[Path(key).suffix](key) for key in keys} == expected
        versions = Counter(key for each in prefixes for key, _ in self.aws.versions(each))
        assert versions <= Counter({key: most for call in self.calls for key, most in call.most_versions().items()})
        records = self.aws.items()
        for call in self.calls:
            record = records.get((call.id, "call"), {})
            assert (record.get("audio"), "parked" in record) == (call.audio, False)
        assert self.messages == self.aws.take("ArchiveDlqUrl") == self.aws.take("AudioDlqUrl") == []
        assert (self.report["missing_calls"], self.report["missing_audio"]) == (0, 0)
        if all(call.is_over for call in self.calls):
            assert self.report["settled_until"] == utc(self.now)
        staged = self.aws.s3.list_objects_v2(Bucket=self.aws.bucket, StartAfter=f"staging/{self.start:%Y/%m/%d/%H}")
        keys = [each["Key"] for each in staged.get("Contents", []) if each["Key"].startswith("staging/")]
        assert [key for key in keys if not self.aws.tags(key)] == []


def is_for_audio(announced: dict[str, Any]) -> bool:
    """The filter policy of AudioQueue's subscription."""
    attributes = {name: each["StringValue"] for name, each in announced["MessageAttributes"].items()}
    return (attributes["event"], attributes["audio"]) == ("transcript_archived", "pending")


deliveries = st.lists(st.builds(Delivery, st.integers(0, 9), st.booleans()), max_size=2)
silence = st.just(Sound(has_audio=False, in_api=NEVER, webhooks=[]))
sounds = st.builds(Sound, st.sampled_from([True, None]), st.integers(0, 6) | st.just(NEVER), deliveries)
plans = st.builds(
    Plan, st.sampled_from(list(FOLDERS)), st.sampled_from(["done", "failed"]), st.integers(0, 3) | st.just(NEVER),
    st.sampled_from([1, 90, 5 * 24 * 60]), st.one_of(sounds, sounds, silence), deliveries,
)  # fmt: skip
routes = st.sampled_from(["list", "get", "audio"])
times = st.sampled_from([1, 5, 20])  # the last of five attempts is over, for several calls too
api_faults = st.one_of(
    st.tuples(routes, st.sampled_from(["429", "500", "503", "drop"]), times),
    st.tuples(
        st.sampled_from(["list", "get", "audio"]), st.sampled_from(["cut", "empty", "html", "slow:0.001"]), times
    ),
    st.tuples(st.just("get"), st.sampled_from(["403", "422", "processing"]), times),
    st.tuples(st.just("audio"), st.sampled_from(["403", "404", "422"]), times),
    st.sampled_from([("list", "ok 422", 1), ("audio", "cut_identity", 5)]),  # the first number: the cursor has expired
)
not_found_once = st.tuples(st.just("get"), st.just("404"), times)  # after two in a row a call counts as gone
outcomes = st.builds(Outcome, st.sampled_from([1, 1, 2, 0]), st.none() | st.integers(0, 12))


def rounds(faults: st.SearchStrategy[tuple[str, str, int]]) -> st.SearchStrategy[Round]:
    return st.builds(
        Round, st.sampled_from([5, 20, 61, 200]), st.lists(faults, max_size=3), st.none() | st.integers(0, 25),
        st.sampled_from([0, 1, 2, NEVER]), st.booleans(), st.integers(0, 3), st.lists(outcomes, min_size=1, max_size=4),
        st.integers(0, 99),
    )  # fmt: skip


first_rounds = st.tuples(rounds(api_faults | not_found_once), *[rounds(api_faults)] * 5)


@given(plans=st.lists(plans, min_size=1, max_size=4), rounds=first_rounds)
@settings(
    max_examples=4,
    phases=[Phase.generate],
    derandomize=True,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
def check_schedule(
    aws: Stack,
    elevenlabs: ElevenLabs,
    context: Any,
    process: Process,
    plans: list[Plan],
    rounds: tuple[Round, ...],
) -> None:
    world = World(aws, elevenlabs, context, process, plans)

    for number, round_ in enumerate([*rounds, *CALM]):
        world.run_round(number, round_)

    world.check()


@pytest.fixture
def process(aws: Stack, elevenlabs: ElevenLabs, monkeypatch: pytest.MonkeyPatch) -> Process:
    """Use one thread, so that an example is reproducible, and short pages."""
    monkeypatch.setattr("reconciler.elevenlabs.PAGE", 2)
    monkeypatch.setattr("reconciler.calls._AT_ONCE", 1)
    monkeypatch.setattr("reconciler.sweep._AT_ONCE", 1)
    found, process = (archiver.handler.aws(), reconciler.handler.aws()), Process()
    clients = [archiver.handler.sns(), found[1]._secrets_manager]
    for each in found:
        clients += [each.bucket._s3, each.sqs, each.table.meta.client]
    writers = {"s3.PutObject": found[1].bucket._s3, "dynamodb.UpdateItem": found[1].table.meta.client}
    for operation, client in writers.items():
        client.meta.events.register_first(f"needs-retry.{operation}", process.send_again, unique_id="lost")
    for client in clients:
        client.meta.events.register_first("before-call", process.before_call, unique_id="process")
    return process


@pytest.mark.filterwarnings("ignore:No application metrics")  # of a killed worker
def test_no_schedule_leaves_the_archive_without_a_call_that_elevenlabs_has(aws, elevenlabs, context, process):
    check_schedule(aws, elevenlabs, context, process)
