"""The in-memory Secrets Manager behaves as moto's, for the rotation of the webhook secret and for ingest."""

from datetime import datetime, timedelta, timezone
from random import Random
from types import SimpleNamespace
from typing import Any

import pytest

from ingest.secret import Periods, SigningSecret
from scripts.operations.secret import WebhookSecret, drop_previous, put_key, read_secret
from scripts.operations.stack import OpsError
from tests.conftest import Stack
from tests.conftest import client as boto3_client
from tests.faults.services.client import Client
from tests.faults.services.comparison import Step, answer_of, assert_same
from tests.faults.services.secrets import SecretsManager

OPERATORS = ("first", "second")
PERIODS = Periods(timedelta(seconds=1000), timedelta(seconds=100), timedelta(seconds=100))


class Clock:
    def __init__(self) -> None:
        self.now = 1_772_550_000

    def time(self) -> int:
        return self.now

    def moment(self) -> datetime:
        return datetime.fromtimestamp(self.now, timezone.utc)


class SecretSide:
    """Two operators, who know what they read last, and an ingest with its cache."""

    def __init__(self, client: Any, arn: str, clock: Clock) -> None:
        self.client, self._clock = client, clock
        outputs = {"WebhookSecretArn": arn, "SecretOverlapSeconds": "1000", "SecretCacheSeconds": "100"}
        self._stack: Any = SimpleNamespace(client=lambda _: client, output=lambda name, *_: outputs[name])
        self._view: Any = SimpleNamespace(stack=self._stack, command=lambda text: text)
        self._ingest = SigningSecret(client, arn, PERIODS)
        self._read: dict[str, WebhookSecret] = {}

    def read(self, operator: str) -> Any:
        """Without the versions' ids, and without `touched_at`, which moto leaves as it is if a label is removed.

        In AWS it is "the last date and time that this secret was modified in any way" (DescribeSecret).
        """
        secret = self._read[operator] = read_secret(self._stack)
        return secret.current, secret.previous, secret.changed_at, secret.version == secret.previous_version

    def put(self, operator: str, key: str) -> Any:
        if operator in self._read:
            try:
                put_key(self._view, self._read[operator], key)
            except OpsError as error:
                return str(error)

    def drop(self, operator: str) -> None:
        """Then both read again before they put a key, because what was read before has an older `touched_at` in AWS."""
        if operator in self._read and self._read[operator].previous:
            drop_previous(self._stack, self._read[operator])
            self._read.clear()

    def drop_twice(self, operator: str) -> None:
        """Like another operator, who has not seen that the label is removed."""
        if operator in self._read and self._read[operator].previous:
            read = self._read[operator]
            self.drop(operator)
            drop_previous(self._stack, read)

    def keys(self) -> dict[str, str]:
        return self._ingest.keys(self._clock.moment())

    def reread(self) -> bool:
        return self._ingest.reread(self._clock.moment())


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr("moto.secretsmanager.models.time", clock)
    return clock


@pytest.fixture
def ours(clock: Clock) -> SecretSide:
    secrets = SecretsManager(clock.time)
    return SecretSide(Client("secretsmanager", secrets.call), secrets.create("rotated", "key 0"), clock)


@pytest.fixture
def theirs(clock: Clock, aws: Stack) -> SecretSide:
    client = boto3_client("secretsmanager")
    return SecretSide(client, client.create_secret(Name="rotated", SecretString="key 0")["ARN"], clock)


def _steps(random: Random, count: int) -> list[tuple[str, Step]]:
    return [_step(random.choice(OPERATORS), f"key {random.randint(1, 3)}", random) for _ in range(count)]


def _step(operator: str, key: str, random: Random) -> tuple[str, Step]:
    steps: dict[str, Step] = {
        "read": lambda side: side.read(operator), f"put {key}": lambda side: side.put(operator, key),
        "drop": lambda side: side.drop(operator), "drop twice": lambda side: side.drop_twice(operator),
        "keys": lambda side: side.keys(), "reread": lambda side: side.reread(),
    }  # fmt: skip
    name = random.choices(list(steps), (4, 3, 1, 0.5, 3, 1))[0]
    return f"{operator} {name}", steps[name]


@pytest.mark.parametrize("seed", range(3))
def test_rotations_of_two_operators_and_readings_are_the_same(
    ours: SecretSide, theirs: SecretSide, clock: Clock, seed: int
) -> None:
    random = Random(seed)

    def wait() -> None:
        clock.now += random.choice((0, 1, 20, 150, 1200))

    assert_same(ours, theirs, _steps(random, 150), then=wait)


def test_what_does_not_exist_has_the_same_error(ours: SecretSide, theirs: SecretSide) -> None:
    for side in (ours, theirs):
        for stage in ("AWSCURRENT", "AWSPREVIOUS"):
            with pytest.raises(side.client.exceptions.ResourceNotFoundException):
                side.client.get_secret_value(SecretId="nothing", VersionStage=stage)
        with pytest.raises(side.client.exceptions.ResourceNotFoundException):
            side.client.get_secret_value(SecretId="rotated", VersionStage="AWSPREVIOUS")
        assert answer_of(lambda s=side: s.client.describe_secret(SecretId="nothing")) == (
            "error", "ResourceNotFoundException",
        )  # fmt: skip
