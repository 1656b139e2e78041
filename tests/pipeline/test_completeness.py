"""The whole way without webhooks: the embedded AWS, and a stand-in of ElevenLabs' API that knows all calls."""

import json
import os
import subprocess
import sys
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest

from scripts.demo.recordings import mp3
from scripts.embedded.aws import REGION, ROOT_KEY, EmbeddedAws
from scripts.embedded.elevenlabs import ElevenLabs
from shared import keys
from tests.conftest import fixture_body
from tests.pipeline.conftest import Pipeline, wait_until
from tests.processes import LONGEST

FOLDER = "12025550123"
PARAMETERS = {
    "BucketName": "agentic-memory-complete", "ElevenLabsApiKey": "xi-test", "AudioDelaySeconds": "1",
    "ReconcileAfterMinutes": "0", "AudioTimeoutSeconds": "60", "AudioVisibilitySeconds": "60",
}  # fmt: skip


@pytest.fixture(scope="module")
def pipeline(emulator: EmbeddedAws, elevenlabs: ElevenLabs) -> Pipeline:
    return Pipeline(emulator, "complete", PARAMETERS | {"ElevenLabsApiHost": elevenlabs.url})


def call(conversation_id: str, ended: timedelta = timedelta(minutes=5), seconds: int = 60) -> dict[str, Any]:
    data = json.loads(fixture_body("02"))["data"] | {"conversation_id": conversation_id, "has_audio": True}
    start = int((datetime.now(timezone.utc) - ended).timestamp()) - seconds
    return data | {"metadata": data["metadata"] | {"start_time_unix_secs": start, "call_duration_secs": seconds}}


def reconcile(pipeline: Pipeline) -> dict[str, Any]:
    """One pass, as the schedule would begin it."""
    answer = pipeline._client("lambda").invoke(FunctionName=pipeline.outputs["ReconcilerFunctionName"], Payload=b"{}")
    assert "FunctionError" not in answer
    return json.loads(answer["Payload"].read())


def test_a_recording_of_35_minutes_that_no_webhook_carries_is_archived_whole(pipeline, elevenlabs):
    recording = mp3(35 * 60)
    assert len(recording) > 33_000_000
    data = call("conv_long", seconds=35 * 60)
    elevenlabs.add(data, recording)

    pipeline.post(json.dumps({"type": "post_call_transcription", "event_timestamp": 1772550278, "data": data}).encode())
    wait_until(lambda: pipeline.call("conv_long").get("audio") == "archived")

    assert pipeline.body(f"{FOLDER}/conv_long.mp3") == recording


def test_one_pass_heals_the_outage_of_a_day(pipeline, elevenlabs):
    for number in range(12):
        elevenlabs.add(call(f"conv_{number}", timedelta(minutes=5 + 120 * number)), b"ID3 recording %d" % number)

    report = reconcile(pipeline)

    assert report["outcomes"] == {"fetched": 12}
    wait_until(lambda: all(pipeline.call(f"conv_{number}").get("audio") == "archived" for number in range(12)))
    pipeline.settle()
    for number in range(12):
        assert pipeline.json(f"{FOLDER}/conv_{number}.json") == elevenlabs.conversations[f"conv_{number}"]
        assert pipeline.body(f"{FOLDER}/conv_{number}.mp3") == elevenlabs.audio[f"conv_{number}"]
        assert pipeline.items()[f"conv_{number}", "memory#semantic"]["state"] == "done"
    again = reconcile(pipeline)
    assert (again["missing_calls"], again["missing_audio"], again["oldest"]) == (0, 0, None)
    assert [pipeline.depth(queue) for queue in ("ArchiveDlqUrl", "AudioDlqUrl", "MemoryDlqUrl")] == [0, 0, 0]


def test_a_body_that_was_staged_and_never_handed_on_is_swept(pipeline):
    body = json.dumps({"type": "post_call_transcription", "data": call("conv_stranded")}).encode()
    key = keys.staged(datetime.now(timezone.utc) - timedelta(hours=3), "ab" * 32)
    pipeline.s3.put_object(Bucket=pipeline.bucket, Key=key, Body=body, Metadata={"origin": "webhook"})

    assert reconcile(pipeline)["swept"] == 1

    wait_until(lambda: pipeline.tags(key) == {"archived": "true"})


MEASURE = """
import json, re, sys
from pathlib import Path
from types import SimpleNamespace
import archiver.handler, reconciler.handler
announcement, context = sys.argv[1], SimpleNamespace(
    function_name="f", memory_limit_in_mb=512, aws_request_id="r", invoked_function_arn="arn",
    get_remaining_time_in_millis=lambda: 60_000)
sqs = reconciler.handler.aws().sqs
event = lambda body: {"Records": [{"messageId": "1", "body": body, "eventSource": "aws:sqs"}]}
assert reconciler.handler.lambda_handler(event(announcement), context) == {"batchItemFailures": []}
(message,) = sqs.receive_message(QueueUrl=reconciler.handler.settings().archive_queue_url)["Messages"]
assert archiver.handler.lambda_handler(event(message["Body"]), context) == {"batchItemFailures": []}
print(re.search(r"VmHWM:\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1])  # the most it ever had in memory
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_100_mb_of_audio_pass_through_both_functions_in_under_200_mb(pipeline, elevenlabs):
    """Both handlers in one process of its own, on queues that no function consumes."""
    elevenlabs.add(call("conv_huge"), b"ID3" + bytes(100_000_000))
    queue = pipeline.sqs.create_queue(QueueName="complete-huge")["QueueUrl"]
    item = {"conversation_id": "conv_huge", "item": "call", "folder": FOLDER, "audio": "pending", "t_order": "0-0-0"}
    pipeline.dynamodb.put_item(
        TableName=pipeline.outputs["ConversationTableName"], Item={name: {"S": text} for name, text in item.items()}
    )
    announcement = {
        "version": 2, "event": "transcript_archived", "conversation_id": "conv_huge", "agent_id": None,
        "external_number": None, "order": "0-0-0", "source_key": f"{FOLDER}/conv_huge.json",
        "json_key": f"{FOLDER}/conv_huge.json", "mp3_key": None, "audio": "pending",
    }  # fmt: skip
    environment = {
        "BUCKET_NAME": pipeline.bucket, "CONVERSATION_TABLE_NAME": pipeline.outputs["ConversationTableName"],
        "ARCHIVE_QUEUE_URL": queue, "AUDIO_QUEUE_URL": queue, "DLQ_URL": queue, "HTTP_API_ID": "api",
        "ERASURE_SECRET_ARN": "none",
        "CALL_ARCHIVED_TOPIC_ARN": pipeline.outputs["CallArchivedTopicArn"], "ELEVENLABS_HOST": elevenlabs.url,
        "ELEVENLABS_SECRET_ARN": pipeline.outputs["ElevenLabsSecretArn"], "RECONCILE_AFTER_MINUTES": "0",
        "KEEP_AUDIO": "true", "GZIP_JSON": "false", "MINIMUM_CALL_SECONDS": "0", "AGENT_IDS": "",
        "AWS_ENDPOINT_URL": pipeline.outputs["AwsEndpointUrl"], "AWS_REGION": REGION, "AWS_DEFAULT_REGION": REGION,
        "AWS_ACCESS_KEY_ID": ROOT_KEY, "AWS_SECRET_ACCESS_KEY": ROOT_KEY, "POWERTOOLS_METRICS_NAMESPACE": "test",
        "POWERTOOLS_SERVICE_NAME": "test", "PATH": os.environ["PATH"],
    }  # fmt: skip

    done = subprocess.run(
        [sys.executable, "-c", MEASURE, json.dumps(announcement)],
        env=environment, cwd=Path(__file__).parents[2], capture_output=True, text=True, check=False, timeout=LONGEST,
    )  # fmt: skip

    assert done.returncode == 0, done.stderr
    assert int(done.stdout.split()[-1]) < 200_000  # KB
    assert pipeline.head(f"{FOLDER}/conv_huge.mp3")["ContentLength"] == 100_000_003


def test_a_stack_without_a_key_says_that_it_only_sweeps(emulator):
    outputs = Pipeline(emulator, "sweeping", {"BucketName": "agentic-memory-sweeping"}).outputs

    assert outputs["Completeness"] == (
        "Every hour, payloads that are not archived are processed again. "
        "Set ElevenLabsApiKey to fetch what webhooks do not deliver."
    )
    assert "AudioQueueUrl" not in outputs
