"""`ops status` tells how many functions the account may run at a time, and how many it ran."""

from datetime import datetime, timedelta, timezone

import boto3
import pytest

from tests.scripts.operations.conftest import AwsCalls


def answer_limit(aws_calls: AwsCalls, limit: int, unreserved: int) -> None:
    """Let Lambda tell the account's limit, which moto does not know."""
    aws_calls.answer(
        "GetAccountSettings",
        {"AccountLimit": {"ConcurrentExecutions": limit, "UnreservedConcurrentExecutions": unreserved}},
    )


def use(functions: int, *, minutes_ago: int) -> None:
    """Let CloudWatch know how many functions of the account ran at a time."""
    at = datetime.now(timezone.utc) - timedelta(minutes=minutes_ago)
    data = [{"MetricName": "ConcurrentExecutions", "Value": functions, "Timestamp": at}]
    boto3.client("cloudwatch").put_metric_data(Namespace="AWS/Lambda", MetricData=data)


def test_the_accounts_concurrency_is_shown(stack, run_ops, run_ops_json, aws_calls):
    for functions, minutes_ago in ((7, 5), (12, 50), (900, 70)):
        use(functions, minutes_ago=minutes_ago)
    answer_limit(aws_calls, 1000, 900)
    code, found = run_ops_json("status")
    answer_limit(aws_calls, 1000, 900)
    _, out, _ = run_ops("status")

    assert (code, found["concurrency"]) == (0, {"limit": 1000, "unreserved": 900, "used_at_most": 12})
    assert "\nConcurrency: 12 of the account's 1000 used in the last hour, 900 not reserved\n" in out
    assert out.endswith("\nAll is well.\n")


HOW_TO_RAISE = (
    "Ask Service Quotas for more (AWS Lambda, Concurrent executions): aws service-quotas "
    "request-service-quota-increase --service-code lambda --quota-code L-B99A9384 --desired-value "
)


@pytest.mark.parametrize(("limit", "used"), [(10, 8), (100, 80), (1000, 800)])
def test_concurrency_that_is_nearly_used_up_needs_attention(stack, run_ops_json, aws_calls, limit, used):
    use(used, minutes_ago=5)
    answer_limit(aws_calls, limit, limit)

    code, found = run_ops_json("status")

    (advice,) = found["next"]
    assert code == 1
    assert advice["trouble"].startswith(f"{used} of the {limit} functions that the account can run at the same time")
    assert advice["trouble"].endswith(HOW_TO_RAISE + ("2000" if limit == 1000 else "1000"))


@pytest.mark.parametrize(("limit", "is_low"), [(10, True), (99, True), (100, False), (1000, False)])
def test_a_low_limit_of_the_account_is_shown_without_asking_for_attention(
    stack, run_ops_json, aws_calls, run_ops, limit, is_low
):
    use(7, minutes_ago=5)
    answer_limit(aws_calls, limit, limit)
    code, found = run_ops_json("status")
    answer_limit(aws_calls, limit, limit)
    _, out, _ = run_ops("status")

    notes = found["good_to_know"]
    assert (code, found["next"], len(notes)) == (0, [], int(is_low))
    assert ("Good to know: the account can run only" in out) == is_low
    assert all(note.startswith(f"the account can run only {limit} functions at the same time") for note in notes)
    assert all(note.endswith(f"{HOW_TO_RAISE}1000") for note in notes)
    assert "All is well." in out


@pytest.mark.parametrize(
    ("operation", "found", "says"),
    [
        ("GetAccountSettings", (None, None, 12), "12 of the account's ? used in the last hour, ? not reserved"),
        ("GetMetricStatistics", (1000, 900, None), "? of the account's 1000 used in the last hour, 900 not reserved"),
    ],
)
def test_who_may_not_ask_for_the_concurrency_still_sees_the_rest(
    stack, run_ops, run_ops_json, aws_calls, operation, found, says
):
    use(12, minutes_ago=5)
    aws_calls.refuse(operation)
    answer_limit(aws_calls, 1000, 900)
    code, shown = run_ops_json("status")
    answer_limit(aws_calls, 1000, 900)
    _, out, _ = run_ops("status")

    assert (code, tuple(shown["concurrency"].values())) == (0, found)
    assert f"\nConcurrency: {says}\n" in out
    assert out.endswith("\nAll is well.\n")
