"""The webhook's signing secret as Secrets Manager holds it, and which of its keys webhooks are signed with."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from typing import Any

from scripts.aws_session import OpsError
from scripts.operations.logs import read, read_entry
from scripts.operations.stack import Stack
from scripts.operations.view import View

HOUR = timedelta(hours=1)  # ElevenLabs repeats a delivery for 41 minutes, perhaps under its first signature
OLD_STACK = (
    "The stack is of an older version: it does not report which key signed a webhook. Deploy this version first."
)
_STAGED = '{ ($.message = "Webhook staged") || ($.message = "Test webhook staged") }'
RACE = "Somebody else has just changed the secret. This command changed nothing. Look first:"


@dataclass(frozen=True)
class WebhookSecret:
    """What Secrets Manager holds, and how ingest reads it. `previous` is empty if there is none."""

    current: str
    previous: str
    version: str
    previous_version: str
    changed_at: datetime  # since when the current key is the current one
    touched_at: datetime  # when anything of the secret was changed last
    overlap: timedelta
    cache_time: timedelta

    @property
    def settling(self) -> timedelta:
        """How long it takes until every warm ingest has read a change, and a tenth more for Secrets Manager itself."""
        return self.cache_time * 1.1

    @property
    def known_at(self) -> datetime:
        """From then on, no ingest knows only the previous key."""
        return self.changed_at + self.settling

    @property
    def overlap_ends(self) -> datetime:
        return self.changed_at + self.overlap

    def accepts_previous(self, now: datetime) -> bool:
        return bool(self.previous) and now < self.overlap_ends


def read_secret(stack: Stack) -> WebhookSecret:
    overlap, cache_time = (
        timedelta(seconds=int(stack.output(name, OLD_STACK))) for name in ("SecretOverlapSeconds", "SecretCacheSeconds")
    )
    client, arn = stack.client("secretsmanager"), stack.output("WebhookSecretArn")
    # First, so that a change during these reads is noticed when a key is put.
    touched_at = client.describe_secret(SecretId=arn)["LastChangedDate"]
    current = client.get_secret_value(SecretId=arn, VersionStage="AWSCURRENT")
    previous = read_previous(client, arn)
    return WebhookSecret(
        current.get("SecretString", "").strip(), previous.get("SecretString", "").strip(), current["VersionId"],
        previous.get("VersionId", ""), current["CreatedDate"], touched_at, overlap, cache_time,
    )  # fmt: skip


def read_previous(client: Any, arn: str) -> dict[str, Any]:
    try:
        return dict(client.get_secret_value(SecretId=arn, VersionStage="AWSPREVIOUS"))
    except client.exceptions.ResourceNotFoundException:
        return {}


def put_key(view: View, secret: WebhookSecret, key: str) -> None:
    """Make `key` the current one, based on what was read: once, even if it is repeated or two runs do it together.

    The token is the new version's id, and two versions cannot have the same id. Raises OpsError.
    """
    token = hashlib.sha256(f"{secret.version} {secret.touched_at.timestamp()}".encode()).hexdigest()
    client, arn = view.stack.client("secretsmanager"), view.stack.output("WebhookSecretArn")
    try:
        client.put_secret_value(SecretId=arn, SecretString=key, ClientRequestToken=token)
    except client.exceptions.ResourceExistsException:
        raise OpsError(f"{RACE} {view.command('rotate-secret --status')}", code=1) from None


def drop_previous(stack: Stack, secret: WebhookSecret) -> None:
    """Take the label from the previous key's version, which Secrets Manager deletes some time after that."""
    stack.client("secretsmanager").update_secret_version_stage(
        SecretId=stack.output("WebhookSecretArn"), VersionStage="AWSPREVIOUS",
        RemoveFromVersionId=secret.previous_version,
    )  # fmt: skip


@dataclass(frozen=True)
class Signed:
    """Webhooks that were staged at a time, or in the minute after it, by the key that signed them.

    `tests` are those of `ops send` and of canaries, which the stack's own key signed.
    """

    at: datetime
    previous: int = 0
    current: int = 0
    tests: int = 0


@dataclass(frozen=True)
class Use:
    """What is known of the webhooks since the current key was put."""

    secret: WebhookSecret
    signed: list[Signed]

    @property
    def with_previous(self) -> int:
        return sum(each.previous for each in self.signed)

    @property
    def last_with_previous(self) -> datetime | None:
        return max((each.at for each in self.signed if each.previous), default=None)

    @property
    def with_current(self) -> int:
        """Since `known_at`: before that, an ingest with a cached secret takes the previous key for the current one."""
        return sum(each.current for each in self.signed if each.at >= self.secret.known_at)

    @property
    def tests(self) -> int:
        return sum(each.tests for each in self.signed)

    def with_previous_since(self, since: datetime) -> int:
        return sum(each.previous for each in self.signed if each.at >= since)

    def need_for_previous(self, now: datetime) -> str:
        """Why the previous key may still be needed; empty if it is not."""
        if not self.secret.accepts_previous(now):
            return ""
        last = self.last_with_previous
        if last and now - last < HOUR:
            return f"the previous key still signs webhooks, the last time at {last:%H:%M:%S}Z"
        return "" if self.with_current else "no webhook signed with the new key has arrived yet"


def read_use(stack: Stack, secret: WebhookSecret) -> Use:
    """From the metrics. If there are none (on the embedded AWS, or in the first minutes), from ingest's log.

    Nothing is read when the previous key is no longer accepted: then its use does not matter.
    """
    if not secret.accepts_previous(datetime.now(timezone.utc)):
        return Use(secret, [])
    return Use(secret, from_metrics(stack, secret.changed_at) or list(from_log(stack, secret.changed_at)))


def from_metrics(stack: Stack, since: datetime) -> list[Signed]:
    """One for each minute. The first may include earlier webhooks, which only make the previous key look used."""
    dimensions = [{"Name": "service", "Value": "ingest"}]
    names = {"staged": "WebhookStaged", "previous": "SignedWithPrevious", "tests": "TestWebhookStaged"}
    queries = [
        {
            "Id": query,
            "MetricStat": {
                "Metric": {"Namespace": f"AgenticMemory/{stack.name}", "MetricName": name, "Dimensions": dimensions},
                "Period": 60, "Stat": "Sum",
            },
        }
        for query, name in names.items()
    ]  # fmt: skip
    found: dict[str, dict[datetime, int]] = {query: {} for query in names}
    pages = stack.client("cloudwatch").get_paginator("get_metric_data").paginate(
        MetricDataQueries=queries,
        StartTime=since.replace(second=0, microsecond=0),
        EndTime=datetime.now(timezone.utc) + timedelta(minutes=1),
    )  # fmt: skip
    for page in pages:
        for result in page["MetricDataResults"]:
            found[result["Id"]] |= zip(result["Timestamps"], map(int, result["Values"]), strict=True)
    staged, previous, tests = found["staged"], found["previous"], found["tests"]
    return [
        Signed(at, previous.get(at, 0), staged.get(at, 0) - previous.get(at, 0), tests.get(at, 0))
        for at in staged.keys() | tests.keys()
    ]


def from_log(stack: Stack, since: datetime) -> Iterator[Signed]:
    for at, line in read(stack, "ingest", since, _STAGED):
        entry = read_entry(line)
        if entry.get("message") == "Test webhook staged":
            yield Signed(at, tests=1)
        elif entry.get("message") == "Webhook staged":
            previous = entry.get("secret") == "previous"
            yield Signed(at, int(previous), int(not previous))
