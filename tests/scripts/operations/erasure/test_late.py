"""Calls that arrive late or begin later."""

import json
from datetime import datetime, timedelta, timezone
from itertools import count
from typing import Any

import pytest

import archiver.handler
from tests.archiver.conftest import stage
from tests.schedules import Worker, watch
from tests.scripts.operations.conftest import (
    CALLER,
    archive_checks,
)
from tests.scripts.operations.erasure.conftest import WORDS, at, audio, call, failure, remembered, sip, traces

pytestmark = [  # the tool ends without closing its connections to Mem0 and ElevenLabs
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


def notice_of_a_party() -> dict[str, Any]:
    """An event without a call, with the number where the archiver looks for it."""
    return {"type": "voice_removed", "data": {"external_number": CALLER, "name": WORDS[CALLER]}}


def began(event: dict[str, Any], parse_time: datetime) -> dict[str, Any]:
    """The same call, begun at that time."""
    metadata = event["data"]["metadata"] | {"start_time_unix_secs": int(parse_time.timestamp())}
    return event | {"data": event["data"] | {"metadata": metadata}}


def test_an_earlier_call_that_arrives_after_the_certificate_is_dropped_and_a_later_call_kept(stack, keep, erase):
    now = datetime.now(timezone.utc)
    keep(began(call("conv_1"), now - timedelta(days=2)))
    erase(CALLER)

    late = [began(call("conv_2"), now - timedelta(days=1)), audio("conv_2"), began(sip("conv_3"), now - timedelta(1))]
    keep(
        audio("conv_4"), *late, [notice_of_a_party(), failure("conv_5")], began(call("conv_4"), now - timedelta(days=1))
    )
    assert traces(stack) == []

    keep(began(call("conv_6"), now + timedelta(minutes=1)))
    assert stack.object_keys() == {f"{CALLER[1:]}/conv_6.json"}


def test_a_number_without_data_can_be_erased_too(stack, keep, run_ops_json, erase):
    _, found = run_ops_json("erase", CALLER)
    code, certificate = erase(CALLER)
    keep(call("conv_1"))

    assert found["next"].startswith("There is no data about this caller. Check the number: it needs its country code")
    assert (code, certificate["complete"], traces(stack)) == (0, True, [])


def test_an_erasure_that_is_run_again_covers_the_calls_until_then(stack, keep, erase):
    now = datetime.now(timezone.utc)
    archiver.handler.archiver()._tombstones.record_erasure(CALLER[1:], now - timedelta(hours=2))  # the first run's
    keep(began(call("conv_1"), now - timedelta(hours=1)))
    assert stack.object_keys() == {f"{CALLER[1:]}/conv_1.json"}

    code, certificate = erase(CALLER)
    keep(began(call("conv_2"), now - timedelta(minutes=30)))

    assert (code, certificate["conversations"], traces(stack)) == (0, ["conv_1"], [])


def test_the_erasure_of_a_number_that_keeps_calling_ends_and_keeps_the_later_calls(
    stack, keep, erase, hosted, aws_calls
):
    later = datetime.now(timezone.utc) + timedelta(minutes=1)
    keep(call("conv_1"), call("conv_2") | {"event_timestamp": 9})
    remembered(hosted, CALLER, "conv_1")
    numbers = count(1)

    def one_more() -> None:
        conversation_id = f"later_{next(numbers)}"
        with aws_calls.paused():
            keep(began(call(conversation_id), later))
            remembered(hosted, CALLER, conversation_id)

    aws_calls.after("Query", one_more)

    code, certificate = erase(CALLER)

    aws_calls.reset()
    assert (code, certificate["complete"], certificate["conversations"]) == (0, True, ["conv_1", "conv_2"])
    kept_calls = {f"later_{number}" for number in range(1, next(numbers))}
    assert len(kept_calls) > 3
    assert stack.object_keys() == {f"{CALLER[1:]}/{name}.json" for name in kept_calls}
    assert {each["metadata"]["conversation_id"] for each in hosted.memories(CALLER)} == kept_calls
    assert not any(stack.call(name).get("erased_at") for name in kept_calls)


def test_a_later_call_with_only_an_event_so_far_stays(stack, keep, erase):
    keep(call("conv_1"))
    failure = {"conversation_id": "later_1", "metadata": {"body": {"To": CALLER}}}
    later = datetime.now(timezone.utc) + timedelta(minutes=1)
    keep({"type": "call_initiation_failure", "event_timestamp": later.timestamp(), "data": failure})

    code, certificate = erase(CALLER)

    assert (code, certificate["complete"], certificate["conversations"]) == (0, True, ["conv_1"])
    assert stack.object_keys() == {f"{CALLER[1:]}/later_1.call_initiation_failure.json"}
    assert "erased_at" not in stack.call("later_1")


def test_a_message_about_a_later_call_stays(stack, keep, erase):
    later = datetime.now(timezone.utc) + timedelta(minutes=1)
    keep(call("conv_1"), began(call("conv_2"), later))
    for name in ("conv_1", "conv_2"):
        body = json.dumps({"conversation_id": name, "external_number": CALLER})
        stack.sqs.send_message(QueueUrl=stack.outputs["MemoryDlqUrl"], MessageBody=body)

    erase(CALLER)

    assert [json.loads(each["Body"])["conversation_id"] for each in stack.take("MemoryDlqUrl")] == ["conv_2"]


def test_an_event_that_an_archiver_has_read_is_not_written_after_the_erasure(stack, keep, erase, aws_calls, context):
    keep(call("conv_1"))
    check = stage(stack, notice_of_a_party())
    archiver_client = archiver.handler.aws().bucket._s3
    watch(archiver_client)
    worker = Worker(lambda: archive_checks(context, check))
    started = at(aws_calls, "Query", 3, lambda: (worker.start(), worker.step(), worker.step()))

    code, _ = erase(CALLER)
    while worker.alive:
        worker.step()

    assert (code, started, worker.error, traces(stack)) == (0, None, None, [])
