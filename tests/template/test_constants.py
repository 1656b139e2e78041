"""The template's constants: which they are, how they follow from each other, and who may override them."""

import json
from typing import Any

import pytest

from scripts.deploy.parameters import constants
from scripts.embedded.deployment import TEMPLATE
from scripts.embedded.translation import ConstantError, translate
from tests.alarms import Deployed, translated
from tests.options import WITH_ALL_FUNCTIONS

DAY = 86_400
ELEVENLABS_REPEATS = 41 * 60  # how long ElevenLabs repeats a transcript whose delivery failed
HOURLY = 3600
STACK = Deployed(**WITH_ALL_FUNCTIONS)
CONSTANTS = constants(translated())
STAGES = [
    pytest.param("ArchiveQueue", "ArchiverFunction", id="archive"),
    pytest.param("MemoryQueue", "MemoryWriterFunction", id="memory"),
    pytest.param("AudioQueue", "AudioFunction", id="audio"),
    pytest.param("TranscribeQueue", "TranscriberFunction", id="transcribe"),
    pytest.param("TextQueue", "IndexerFunction", id="text"),
]


def queue(name: str) -> dict[str, Any]:
    return STACK.of("AWS::SQS::Queue")[name]


def test_a_name_is_a_parameter_or_a_constant_and_not_both():
    assert set(CONSTANTS) & set(translated()["Parameters"]) == set()


def test_make_local_can_override_each_of_these_numbers():
    assert set(CONSTANTS) == {
        "SignatureMaxAgeSeconds", "SignatureMaxAheadSeconds", "SecretOverlapSeconds", "SecretCacheSeconds",
        "SecretGraceSeconds", "ArchiveTimeoutSeconds", "ArchiveVisibilitySeconds", "ArchiveMaxReceives",
        "MemoryTimeoutSeconds", "MemoryLeaseSeconds", "MemoryVisibilitySeconds", "MemoryMaxReceives",
        "MemoryUnknownSeconds", "AudioDelaySeconds", "AudioTimeoutSeconds", "AudioVisibilitySeconds",
        "AudioMaxReceives", "TextBatchingSeconds", "TextTimeoutSeconds", "TextVisibilitySeconds", "TextMaxReceives",
        "TextQueueAgeAlarmSeconds", "TextQueueDepthAlarm", "ReconcileAfterMinutes",
        "QueueAgeAlarmSeconds", "AudioQueueAgeAlarmSeconds",
        "TranscribeTimeoutSeconds", "TranscribeVisibilitySeconds", "TranscribeMaxReceives", "TranscribeCheckSeconds",
        "TranscribeQueueAgeAlarmSeconds",
        "QueueDepthAlarm", "UnarchivedAgeAlarmSeconds", "SignatureBurstAlarm", "ReadRateLimit", "ReadBurstLimit",
    }  # fmt: skip


def test_every_constant_is_a_whole_number_and_is_used():
    written = TEMPLATE.read_text()

    for name, (group, value) in CONSTANTS.items():
        assert isinstance(value, int), name
        assert f"!FindInMap [Constants, {group}, {name}]" in written


# ---------------------------------------------------------------- how they follow from each other


@pytest.mark.parametrize(("source", "function"), STAGES)
def test_a_message_stays_invisible_six_times_as_long_as_its_function_may_run(source, function):
    timeout = STACK.of("AWS::Lambda::Function")[function]["Timeout"]
    (mapping,) = (
        each for each in STACK.of("AWS::Lambda::EventSourceMapping").values() if each["FunctionName"] == function
    )

    waits_for_its_batch = mapping.get("MaximumBatchingWindowInSeconds", 0)
    assert queue(source)["VisibilityTimeout"] == 6 * timeout + waits_for_its_batch


@pytest.mark.parametrize(("source", "function"), STAGES)
def test_a_message_has_all_its_attempts_before_it_expires(source, function):
    attempts = queue(source)["RedrivePolicy"]["maxReceiveCount"] * queue(source)["VisibilityTimeout"]

    assert queue(source).get("DelaySeconds", 0) + attempts < DAY < queue(source)["MessageRetentionPeriod"]


@pytest.mark.parametrize(("source", "function"), STAGES)
def test_a_dead_letter_queue_keeps_messages_as_long_as_sqs_can(source, function):
    """And at least as long as the source: what SQS moves keeps the time of its first sending."""
    dlq = queue(queue(source)["RedrivePolicy"]["deadLetterTargetArn"].removesuffix(".Arn"))

    assert dlq["MessageRetentionPeriod"] == 14 * DAY >= queue(source)["MessageRetentionPeriod"]


def test_a_staged_body_outlives_an_announcement_that_was_made_from_it():
    retention = translated()["Parameters"]["StagingRetentionDays"]
    waits = queue("MemoryQueue")["MessageRetentionPeriod"] + queue("MemoryDlq")["MessageRetentionPeriod"]

    assert retention["Default"] >= retention["MinValue"] >= waits / DAY


def test_a_lease_outlives_the_memory_writer_that_holds_it_and_ends_before_the_next_attempt():
    assert value("MemoryTimeoutSeconds") < value("MemoryLeaseSeconds") < value("MemoryVisibilitySeconds")


def test_the_last_attempt_comes_after_the_time_in_which_mem0_is_searched_for_a_lost_memory():
    last = (value("MemoryMaxReceives") - 1) * value("MemoryVisibilitySeconds")

    assert value("MemoryUnknownSeconds") < last


def test_a_request_to_mem0_fits_into_the_memory_writers_time():
    assert value("MemoryTimeoutSeconds") > 30


def test_delays_and_visibility_timeouts_are_within_the_limits_of_sqs():
    assert max(value("AudioDelaySeconds"), value("TranscribeCheckSeconds")) <= 900
    assert max(value(name) for name in CONSTANTS if name.endswith("VisibilitySeconds")) <= 12 * 3600


def test_timeouts_are_within_the_limit_of_lambda():
    assert max(value(name) for name in CONSTANTS if name.endswith("TimeoutSeconds")) <= 900


def test_a_signature_is_accepted_and_a_call_not_missed_as_long_as_elevenlabs_repeats_a_delivery():
    assert value("SignatureMaxAgeSeconds") > ELEVENLABS_REPEATS
    assert value("ReconcileAfterMinutes") * 60 > ELEVENLABS_REPEATS


def test_the_old_secret_is_accepted_until_every_ingest_has_read_the_new_one():
    assert value("SecretCacheSeconds") + value("SecretGraceSeconds") < value("SecretOverlapSeconds")


def test_a_call_is_fetched_by_three_passes_before_an_alarm_fires():
    assert value("UnarchivedAgeAlarmSeconds") >= value("ReconcileAfterMinutes") * 60 + 3 * HOURLY


def value(name: str) -> int:
    return int(CONSTANTS[name][1])


# ---------------------------------------------------------------- who may override them


def test_the_local_deployment_overrides_every_constant_by_its_name():
    template = translate(TEMPLATE, {name: f"7{place:02}" for place, name in enumerate(CONSTANTS)})

    used = json.dumps([template["Resources"], template["Outputs"]])
    assert [name for place, name in enumerate(CONSTANTS) if f" 7{place:02}" not in used] == []


def test_cfn_lint_can_compare_the_constants_because_the_translated_template_has_them_as_numbers():
    """Its rule for timeouts (E3505) passes over a reference."""
    translated_parts = json.dumps([translated()["Resources"], translated()["Outputs"]])

    assert '"Constants"' not in translated_parts
    assert isinstance(translated()["Resources"]["ArchiveQueue"]["Properties"]["VisibilityTimeout"], int)


@pytest.mark.parametrize("value", ["-1", "soon", "1.5", ""])
def test_a_constant_takes_whole_numbers_only(value):
    with pytest.raises(ConstantError, match=f"^ArchiveMaxReceives must be a whole number, not '{value}'.$"):
        translate(TEMPLATE, {"ArchiveMaxReceives": value})
