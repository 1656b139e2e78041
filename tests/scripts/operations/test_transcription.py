"""The commands know what Amazon Transcribe heard: it is exported, checked, and found again from the bucket."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.conftest import Stack, sqs_event
from tests.scripts.operations.conftest import deploy_outputs, table
from tests.transcriber.conftest import RESULT, Amazon, amazon_transcribe, archive
from transcriber.handler import lambda_handler

REASON = "The recording has no valid audio."


@pytest.fixture
def more_outputs() -> dict[str, str]:
    return {"MemoryUnknownSeconds": "3600"}


@pytest.fixture
def amazon(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> Iterator[Amazon]:
    monkeypatch.setenv("DLQ_URL", stack.outputs["TranscribeDlqUrl"])
    with amazon_transcribe(stack) as there:
        yield there


def work(context: Any, *messages: str) -> None:
    assert lambda_handler(sqs_event(*messages), context) == {"batchItemFailures": []}


def transcribed(stack: Stack, amazon: Amazon, context: Any) -> None:
    work(context, archive(stack))
    work(context, amazon.complete(*amazon.jobs))


def test_a_table_that_was_lost_knows_its_transcriptions_again(stack, amazon, context, run_ops_json):
    transcribed(stack, amazon, context)
    before = stack.call("conv_1")
    table(stack).delete_item(Key={"conversation_id": "conv_1", "item": "call"})

    code, done = run_ops_json("reindex", "--yes")

    after = stack.call("conv_1")
    assert (code, done["unreadable"], done["events"]) == (0, 0, 2)
    assert after["event_keys"] == before["event_keys"]
    assert after["transcription"] | {"at": ""} == before["transcription"] | {"at": ""}


def test_an_export_has_the_words_and_the_subtitles(stack, amazon, context, run_ops, tmp_path):
    transcribed(stack, amazon, context)

    code, _, err = run_ops("export", str(tmp_path / "there"), "--conversation", "conv_1")

    assert code == 0, err
    folder = tmp_path / "there/12025550123"
    assert (folder / "conv_1.transcribe.json").read_bytes() == RESULT
    assert (folder / "conv_1.vtt").read_text().startswith("WEBVTT")
    record = json.loads((tmp_path / "there/records/conv_1.json").read_text())
    assert record["call"]["transcription"]["state"] == "done"


def test_verify_names_a_transcription_that_is_gone_and_one_that_failed(stack, amazon, context, run_ops_json):
    transcribed(stack, amazon, context)
    stack.s3.delete_object(Bucket=stack.bucket, Key="12025550123/conv_1.transcribe.json")
    work(context, archive(stack, "conv_2"))
    work(context, amazon.fail(*amazon.jobs, REASON))

    problems = [run_ops_json("verify", each, "--no-mem0")[1]["rows"][0]["problems"] for each in ("conv_1", "conv_2")]

    assert "the record has a transcription, but the archive has none" in problems[0]
    assert f"its recording could not be transcribed: {REASON}" in problems[1]


def test_a_failed_transcription_is_shown_with_its_reason_and_redriven(stack, amazon, context, run_ops, run_ops_json):
    announced = archive(stack)
    work(context, announced)
    work(context, amazon.fail(*amazon.jobs, REASON))
    stack.take("TranscribeQueueUrl")

    (row,) = run_ops_json("dlq", "show", "transcribe")[1]["rows"]
    _, said, _ = run_ops("dlq", "show", "transcribe")
    code, _ = run_ops_json("dlq", "redrive", "transcribe", "--yes")

    assert (row["step"], row["error"], row["calls"]) == ("transcription", REASON, ["conv_1"])
    assert "ops dlq redrive transcribe --yes" in said
    assert code == 0
    (message,) = stack.take("TranscribeQueueUrl")
    assert json.loads(message["Body"]) == json.loads(announced)


def test_without_transcription_there_is_no_such_queue(stack, run_ops):
    deploy_outputs({name: value for name, value in stack.outputs.items() if not name.startswith("Transcribe")})

    code, _, err = run_ops("dlq", "show", "transcribe")

    assert code != 0
    assert "Deploy the stack with the parameter Transcribe." in err
