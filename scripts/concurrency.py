"""How many functions the account may run at the same time. All stacks in the region share this limit."""

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

LOW = 100  # a new account may have 10; a busy hour can use up a limit below this
USUAL = 1000  # what AWS gives to other accounts
Concurrency = dict[str, int | None]


def concurrency(client: Callable[[str], Any], now: datetime) -> Concurrency:
    """The limit, its unreserved part, and the most that was used in the last hour. None: AWS refused to tell."""
    return limits(client) | {"used_at_most": most_used(client, now)}


def limits(client: Callable[[str], Any]) -> Concurrency:
    try:
        limit = client("lambda").get_account_settings()["AccountLimit"]
    except (ClientError, BotoCoreError):
        return {"limit": None, "unreserved": None}
    return {"limit": limit["ConcurrentExecutions"], "unreserved": limit["UnreservedConcurrentExecutions"]}


def most_used(client: Callable[[str], Any], now: datetime) -> int | None:
    """In the whole account: the metric without dimensions. While nothing runs, there are no data points."""
    try:
        points = client("cloudwatch").get_metric_statistics(
            Namespace="AWS/Lambda", MetricName="ConcurrentExecutions", Statistics=["Maximum"], Period=60,
            StartTime=now - timedelta(hours=1), EndTime=now,
        )["Datapoints"]  # fmt: skip
    except ClientError:
        return None
    return int(max((point["Maximum"] for point in points), default=0))


def describe(found: Concurrency) -> str:
    limit, unreserved, used = ("?" if value is None else value for value in found.values())
    return f"{used} of the account's {limit} used in the last hour, {unreserved} not reserved"


def nearly_used_up(found: Concurrency) -> str:
    """What to do if the limit is nearly reached; empty if it is not."""
    limit, used = found["limit"], found["used_at_most"] or 0
    if limit is None or used < 0.8 * limit:
        return ""
    what = f"{used} of the {limit} functions that the account can run at the same time were in use in the last hour"
    return f"{what}. At the limit, webhooks get a 5xx, and queues wait. {_how_to_raise(limit)}"


def low_limit(found: Concurrency) -> str:
    """What a low limit, as of a new account, means; empty if the limit is not low."""
    limit = found["limit"]
    if limit is None or limit >= LOW:
        return ""
    return (
        f"the account can run only {limit} functions at the same time, with those of other stacks. The defaults "
        f"work with a limit of 10. At the limit, webhooks get a 5xx, and queues wait. {_how_to_raise(limit)}"
    )


def _how_to_raise(limit: int) -> str:
    return (
        "Ask Service Quotas for more (AWS Lambda, Concurrent executions): aws service-quotas "
        "request-service-quota-increase --service-code lambda --quota-code L-B99A9384 "
        f"--desired-value {USUAL if limit < USUAL else 2 * limit}"
    )
