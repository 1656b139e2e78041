"""`ops backfill`: what is missing in a past range is fetched, and nothing twice."""

import json
import os
import signal
import time
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from typing import Any

import boto3
import pytest

from scripts.embedded.elevenlabs import ElevenLabs
from shared.record import Records
from shared.times import utc
from tests.conftest import Stack, close_clients, fixture_body
from tests.scripts.operations.conftest import INTERRUPTED, deploy_outputs, note, ops

HOURS = timedelta(hours=1)


@pytest.fixture
def elevenlabs(aws: Stack, monkeypatch: pytest.MonkeyPatch) -> Iterator[ElevenLabs]:
    """The stack `calls` with a key, and the API that it opens."""
    secret = boto3.client("secretsmanager").create_secret(Name="elevenlabs", SecretString="xi-test")["ARN"]
    with ElevenLabs("xi-test") as stand_in:
        aws.outputs.update({"ElevenLabsSecretArn": secret, "ElevenLabsApiHost": stand_in.url})
        deploy_outputs(aws.outputs)
        monkeypatch.setattr("reconciler.elevenlabs._RETRIES.backoff_factor", 0.0)
        yield stand_in
        close_clients()


def add_call(elevenlabs: ElevenLabs, conversation_id: str, ago: timedelta, **fields: Any) -> None:
    data = json.loads(fixture_body("02"))["data"] | {"conversation_id": conversation_id} | fields
    start = int((datetime.now(timezone.utc) - ago).timestamp())
    elevenlabs.add(data | {"metadata": data["metadata"] | {"start_time_unix_secs": start, "call_duration_secs": 60}})


def backfill(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, dict[str, Any]]:
    code, out, _ = ops(capsys, "--stack", "calls", "backfill", "--per-second", "50", "--json", *words)
    return code, json.loads(out)


def fetched(aws: Stack) -> list[str]:
    checks = [json.loads(message["Body"]) for message in aws.take("ArchiveQueueUrl")]
    return sorted(aws.json(check["staged_key"])["data"]["conversation_id"] for check in checks)


def test_a_preview_says_what_is_missing_and_changes_nothing(aws, elevenlabs, capsys):
    for hours in range(1, 6):
        add_call(elevenlabs, f"conv_{hours}", (hours + 1) * HOURS)

    code, shown = backfill(capsys, "--since", "90h")

    assert code == 0
    assert (shown["calls_listed"], shown["calls_missing"]) == (5, 5)
    assert shown["next"] == "Nothing was done. To fetch what is missing, run the same command with --yes."
    assert fetched(aws) == []
    assert [request.route for request in elevenlabs.requests] == ["list"]


def test_with_yes_the_range_is_filled_and_nothing_around_it(aws, elevenlabs, capsys):
    for days in (1, 10, 11, 12, 20):
        add_call(elevenlabs, f"conv_{days}", timedelta(days=days))

    code, shown = backfill(capsys, "--since", "15d", "--until", "5d", "--yes")

    assert (code, shown["fetched"]) == (0, 3)
    assert fetched(aws) == ["conv_10", "conv_11", "conv_12"]


def test_only_the_calls_of_one_agent_are_fetched(aws, elevenlabs, capsys):
    add_call(elevenlabs, "conv_1", 5 * HOURS, agent_id="agent_1")
    add_call(elevenlabs, "conv_2", 5 * HOURS, agent_id="agent_2")

    backfill(capsys, "--since", "1d", "--agent", "agent_2", "--yes")

    assert fetched(aws) == ["conv_2"]


def test_an_interrupted_run_goes_on_and_fetches_nothing_twice(aws, elevenlabs, capsys, monkeypatch):
    monkeypatch.setattr("reconciler.elevenlabs.PAGE", 10)
    for number in range(15):
        add_call(elevenlabs, f"conv_{number}", 5 * HOURS + timedelta(minutes=number))
    listed = 0

    def interrupt(request):
        nonlocal listed
        listed += request.route == "list"
        if listed == 4 and request.route == "list":  # two pages for the preview, and the first of the work
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(0.2)

    elevenlabs.before_answer = interrupt
    first_code, _, said = ops(capsys, "--stack", "calls", "backfill", "--since", "2d", "--per-second", "50", "--yes")
    first = fetched(aws)
    elevenlabs.before_answer = None

    code, shown = backfill(capsys, "--since", "2d", "--yes")

    assert (first_code, code) == (130, 0)
    assert said.endswith(f"{INTERRUPTED}\n")
    assert len(first) == 10
    assert shown["fetched"] == 5
    assert sorted(first + fetched(aws)) == sorted(f"conv_{number}" for number in range(15))


def test_a_range_without_gaps_says_so(aws, elevenlabs, capsys):
    code, shown = backfill(capsys, "--since", "1d", "--yes")

    assert (code, shown["next"]) == (0, "Nothing is missing.")


def test_without_a_key_of_elevenlabs_there_is_nothing_to_fill_from(stack, capsys):
    code, _, err = ops(capsys, "backfill", "--since", "1d", "--stack", "calls")

    assert code == 2
    assert "Deploy it with the parameter ElevenLabsApiKey" in err


def test_a_refused_key_ends_in_a_sentence(aws, elevenlabs, capsys):
    elevenlabs.key = "another"

    code, _, err = ops(capsys, "backfill", "--since", "1d", "--stack", "calls")

    assert (code, err.splitlines()[-1]) == (1, "ElevenLabs: the key is refused (401).")


def test_a_backfill_passes_over_what_is_not_kept_and_judges_anew_what_was_left_out(aws, elevenlabs, capsys):
    records = Records(boto3.resource("dynamodb").Table("conversations"))
    for name, agent in (("conv_ours", "agent_ours"), ("conv_marked", "agent_ours"), ("conv_other", "agent_other")):
        add_call(elevenlabs, name, 5 * HOURS, agent_id=agent)
    records.leave_out("conv_marked", "other_agent")
    deploy_outputs(aws.outputs | {"AgentIds": "agent_ours,agent_also", "MinimumCallSeconds": "10"})

    code, shown = backfill(capsys, "--since", "1d", "--yes")

    assert (code, shown["calls_missing"], shown["fetched"]) == (0, 2, 2)
    assert fetched(aws) == ["conv_marked", "conv_ours"]


def test_a_backfill_asks_for_no_recordings_where_none_are_kept(aws, elevenlabs, capsys):
    ago = utc(datetime.now(timezone.utc) - 5 * HOURS)
    note(aws, "conv_1", audio="unavailable", t_order="1", archived_at=ago, started_at=ago)
    deploy_outputs(aws.outputs | {"KeepAudio": "true"})
    assert backfill(capsys, "--since", "1d")[1]["audio_missing"] == 1
    deploy_outputs(aws.outputs | {"KeepAudio": "false"})

    code, shown = backfill(capsys, "--since", "1d", "--yes")

    assert (code, shown["next"]) == (0, "Nothing is missing.")
    assert aws.take("AudioQueueUrl") == []


def test_a_backfill_fetches_what_the_passes_gave_up(aws, elevenlabs, capsys):
    add_call(elevenlabs, "conv_1", 5 * HOURS)
    ago = utc(datetime.now(timezone.utc) - 2 * HOURS)
    note(aws, "conv_1", missing_since=ago, missing_reason="ElevenLabs answered 403", given_up_at=ago)

    code, shown = backfill(capsys, "--since", "1d", "--yes")

    assert (code, shown["fetched"]) == (0, 1)
    assert aws.call("conv_1").keys() == {"conversation_id", "item", "fetches", "fetched_at"}


def test_a_backfill_in_vain_says_so(aws, elevenlabs, capsys):
    add_call(elevenlabs, "conv_1", 50 * HOURS)
    ago = utc(datetime.now(timezone.utc) - 30 * HOURS)
    note(aws, "conv_1", missing_since=ago, missing_reason="ElevenLabs answered 403", given_up_at=ago)
    elevenlabs.plan("get", "403")

    code, shown = backfill(capsys, "--since", "4d", "--yes")

    assert (code, shown["unavailable"]) == (1, 1)


def test_a_backfill_asks_again_for_a_recording_that_was_given_up_and_gives_it_another_day(aws, elevenlabs, capsys):
    ago = utc(datetime.now(timezone.utc) - 50 * HOURS)
    note(
        aws, "conv_1", audio="unavailable", t_order="1", archived_at=ago, started_at=ago, audio_missing_since=ago,
        audio_missing_reason="ElevenLabs answered 403",
    )  # fmt: skip

    assert backfill(capsys, "--since", "3d", "--yes")[1]["audio_asked_for"] == 1

    call = aws.call("conv_1")
    assert (call["audio"], call.get("audio_missing_since"), call.get("audio_missing_reason")) == ("pending", None, None)
    assert len(aws.take("AudioQueueUrl")) == 1
