"""The canary as its schedule calls it."""

import json

import pytest

import archiver.handler
import canary.handler
from tests.alarms import emitted
from tests.canary.conftest import endpoint
from tests.conftest import forget


def versions(aws) -> list[str]:
    found = aws.s3.list_object_versions(Bucket=aws.bucket)
    return [each["Key"] for each in found.get("Versions", []) + found.get("DeleteMarkers", [])]


@pytest.fixture
def fly(aws, context, monkeypatch):
    def run(url: str) -> dict[str, float]:
        monkeypatch.setenv("POST_CALL_URL", url)
        forget()
        return canary.handler.lambda_handler({}, context)

    return run


def counted(output: str) -> dict[str, float]:
    found = emitted(output)
    return {name: sum(values) for (_, name, dimensions), values in found.items() if len(dimensions) == 1}


def test_a_flight_leaves_nothing_but_a_tombstone(aws, context, fly, capsys):
    with endpoint(aws, context) as url:
        steps = fly(url)

    assert list(steps) == ["taken in", "archived", "taken away"]
    assert counted(capsys.readouterr().out)["CanaryPassed"] == 1
    assert versions(aws) == []
    calls = [item for (_, kind), item in aws.items().items() if kind == "call"]
    assert [set(item) for item in calls] == [{"conversation_id", "item", "erased_at"}]
    assert aws.reasons() == []


def test_a_flight_that_gets_stuck_names_the_step_and_is_taken_away(aws, context, fly, monkeypatch, capsys, logs):
    monkeypatch.setenv("CANARY_STEP_SECONDS", "0")
    monkeypatch.setattr(archiver.handler, "lambda_handler", lambda *_: None)  # stands for an archiver that is down
    with endpoint(aws, context) as url:
        steps = fly(url)

    assert list(steps) == ["taken in"]
    found = counted(capsys.readouterr().out)
    assert (found["CanaryPassed"], found["CanaryFailed"]) == (0, 1)
    (entry,) = (json.loads(line) for line in logs.getvalue().splitlines() if "got stuck" in line)
    assert entry["step"] == "archived"


def test_an_endpoint_out_of_reach_is_seen_at_the_first_step(aws, context, fly, logs):
    assert fly("http://127.0.0.1:9/post-call") == {}

    (entry,) = (json.loads(line) for line in logs.getvalue().splitlines() if "got stuck" in line)
    assert entry["step"] == "taken in"


def test_what_a_killed_flight_left_behind_is_taken_away_and_no_others_call(aws, context, fly):
    for name in ("canary_20260101T000000Z_00000000", "conv_1"):
        aws.s3.put_object(Bucket=aws.bucket, Key=f"no-phone/{name}.json", Body=b"{}")

    with endpoint(aws, context) as url:
        fly(url)

    assert versions(aws) == ["no-phone/conv_1.json"]
