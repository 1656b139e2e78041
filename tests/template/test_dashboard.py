"""The dashboard shows each metric that is counted, and what it all costs."""

import json
from typing import Any

import pytest

from scripts.operations.reports.cost import PER_CALL
from scripts.operations.rules import Metric, watched
from tests.alarms import drawn, expressions
from tests.archiver.conftest import audio, stage, transcript
from tests.conftest import sqs_event
from tests.ingest.conftest import signed
from tests.memory_writer.conftest import announce, small_call
from tests.template.documented import ALARMS, AWS, DEFAULT, EVERYTHING, STACKS, from_logs, resource_of
from tests.template.world import (
    World,
    a_key_that_is_refused,
    a_list_that_cannot_be_read,
    a_secret_that_cannot_be_read_again,
    a_test_call_that_fails,
    all_is_fixed,
    ended_ago,
    forgeries,
    good_webhook,
)
from tests.transcriber.conftest import amazon_transcribe, archive


def everything_that_is_counted(world: World) -> dict[Metric, list[float]]:
    """All metrics that the functions publish when each outcome has happened once."""
    for act in (
        webhooks,
        a_secret_that_cannot_be_read_again,
        calls,
        memories,
        texts,
        recordings,
        transcriptions,
        passes,
        a_test_call_that_fails,
        a_breakdown,
    ):
        act(world)
    return world.emitted()


def webhooks(world: World) -> None:
    good_webhook(world)
    forgeries(1)(world)
    assert world.run("IngestFunction", signed(b""))["statusCode"] == 400


def calls(world: World) -> None:
    for body in (transcript("conv_1"), audio("conv_1"), audio("conv_2"), {"type": "new", "data": {}}):
        world.run("ArchiverFunction", sqs_event(stage(world.aws, body)))
    world.run("ArchiverFunction", sqs_event("not json"))


def memories(world: World) -> None:
    known, unknown = announce(world.aws, small_call()), announce(world.aws, small_call(), number=None)
    for message in (known, known, unknown, "not json"):
        world.run("MemoryWriterFunction", sqs_event(message))


def texts(world: World) -> None:
    known, unknown = announce(world.aws, small_call()), announce(world.aws, small_call(conversation_id="conv_none"))
    world.run("ArchiverFunction", sqs_event(stage(world.aws, transcript("conv_1"))))
    for message in (known, unknown, "not json"):
        world.run("IndexerFunction", sqs_event(message))
    world.run("IndexerFunction", {})


def recordings(world: World) -> None:
    """One that is there, one that may still come, and one that was never made."""
    for conversation_id in ("conv_there", "conv_late", "conv_none"):
        world.elevenlabs.add(ended_ago(conversation_id, 3, has_audio=conversation_id != "conv_none"))
        world.run("ArchiverFunction", sqs_event(stage(world.aws, transcript(conversation_id))))
    world.elevenlabs.audio["conv_there"] = b"ID3 sound"
    for announced in world.aws.announcements():
        world.run("AudioFunction", sqs_event(json.dumps(announced)))
    world.run("AudioFunction", sqs_event("not json"))


def transcriptions(world: World) -> None:
    with amazon_transcribe(world.aws) as amazon:
        world.run("TranscriberFunction", sqs_event(archive(world.aws, "conv_heard")))
        world.run("TranscriberFunction", sqs_event(amazon.complete(*amazon.jobs)))
    world.run("TranscriberFunction", sqs_event("not json"))


def passes(world: World) -> None:
    for act in (all_is_fixed, a_list_that_cannot_be_read, a_key_that_is_refused):
        act(world)


def a_breakdown(world: World) -> None:
    """Without its table and its queue no function can do its work."""
    announced, staged = announce(world.aws, small_call()), stage(world.aws, transcript("conv_3"))
    heard = archive(world.aws, "conv_3")
    world.aws.dynamodb.delete_table(TableName=world.aws.outputs["ConversationTableName"])
    world.aws.sqs.delete_queue(QueueUrl=world.aws.outputs["ArchiveQueueUrl"])
    for function, message in {
        "Archiver": staged, "MemoryWriter": announced, "Audio": announced, "Transcriber": heard, "Indexer": announced,
    }.items():  # fmt: skip
        assert world.run(f"{function}Function", sqs_event(message))["batchItemFailures"]
    assert world.run("IngestFunction", signed())["statusCode"] == 503


def test_each_metric_of_ours_on_the_dashboard_and_in_an_alarm_is_one_that_is_counted(world):
    on_dashboard = {metric for metric, _ in drawn(EVERYTHING.dashboard)}
    in_alarms = {watched(alarm) for alarm in ALARMS.values()}
    ours = {metric for metric in on_dashboard | in_alarms if metric[0] not in AWS}

    written = everything_that_is_counted(world)

    assert sorted(ours - set(written) - from_logs(EVERYTHING)) == []
    assert len(ours) > 20


def test_each_metric_of_aws_on_the_dashboard_is_documented_for_a_resource_of_the_stack():
    of_aws = {metric for metric, _ in drawn(EVERYTHING.dashboard) if metric[0] in AWS}

    assert {resource_of(metric) for metric in of_aws} == {
        (AWS[namespace].kind, name)
        for namespace in AWS for name in EVERYTHING.of(AWS[namespace].kind) if name != "AlarmTopic"
    }  # fmt: skip


def test_each_alarm_can_be_seen_on_the_dashboard():
    assert {watched(alarm) for alarm in ALARMS.values()} <= {metric for metric, _ in drawn(EVERYTHING.dashboard)}


def test_without_a_key_of_elevenlabs_the_dashboard_names_only_resources_of_the_stack():
    of_aws = {metric for metric, _ in drawn(DEFAULT.dashboard) if metric[0] in AWS}

    assert {resource_of(metric)[1] for metric in of_aws if "none" not in dict(metric[2]).values()} <= set(
        DEFAULT.resources
    )


@pytest.mark.parametrize("stack", STACKS)
def test_the_widgets_fill_row_by_row(stack):
    widgets, column = stack.dashboard["widgets"], 0

    for widget in widgets:
        column = column % 24 + widget["width"]
        assert column <= 24
        assert widget["type"] == "text" or widget["properties"]["region"] == "AWS::Region"
    assert column == 24


def test_the_estimate_of_the_cost_is_that_of_the_prices_beside_it():
    hidden = {options["id"]: metric for metric, options in drawn(EVERYTHING.dashboard) if "id" in options}
    memory = {name: each["MemorySize"] for name, each in EVERYTHING.of("AWS::Lambda::Function").items()}
    month = {
        "Count": 2_000, "DataProcessed": 2**30, "Invocations": 5_000, "NumberOfEmptyReceives": 400_000,
        "CallArchived": 1_000, "TranscribedSeconds": 6_000, "BucketSizeBytes": 2**30, "NumberOfObjects": 4_000,
        "ProcessedBytes": 10**12,
    }  # fmt: skip
    seconds = {name: 100 * 2**place for place, name in enumerate(memory)}

    def measured(metric: Metric) -> float:
        return 1000 * seconds[dict(metric[2])["FunctionName"]] if metric[1] == "Duration" else month[metric[1]]

    cost: dict[str, Any] = {"SUM": sum} | {name: measured(metric) for name, metric in hidden.items()}
    for name, expression in reversed(expressions(EVERYTHING.dashboard).items()):
        cost[name] = eval(expression, {}, cost)

    gigabyte_seconds = sum(seconds[name] * memory[name] / 1024 for name in memory)
    per_call = sum(times * price for times, price in PER_CALL.values()) * 1e-6  # a report says the same
    parts = {
        "api": 2 * (2_000 + 2_048) * 1e-6,
        "functions": 9 * 5_000 * 0.2e-6 + gigabyte_seconds * 0.0000133334,
        "polling": 5 * 400_000 * 0.4e-6,
        "handling": 1_000 * round(per_call, 6),
        "transcription": 100 * 0.024,
        "searches": 5,
        "storage": 0.023 + 0.0125 + 0.004 + 4_000 * 0.65 / 100_000,
    }
    assert {name: cost[name] for name in parts} == pytest.approx(parts)
    assert cost["total"] == pytest.approx(sum(parts.values()))
