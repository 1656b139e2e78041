"""A missing, wrong or corrected key of ElevenLabs' API."""

from datetime import timedelta

import boto3
import pytest

from shared.times import utc
from tests.reconciler.conftest import HOUR, NOW, conversation, run


def test_a_refused_key_changes_no_call(aws, elevenlabs):
    elevenlabs.add(conversation())
    elevenlabs.plan("get", "401")

    assert "refused" in run()["error"]

    assert aws.call("conv_1") == {}


def test_a_wrong_key_is_logged_once_and_tried_once(aws, elevenlabs, logs, capsys):
    elevenlabs.key = "another"

    report = run()

    assert "refused" in report["error"]
    assert len(elevenlabs.requests) == 1
    assert "put a valid one into the secret of the parameter ElevenLabsApiKey" in logs.getvalue()
    assert "xi-test" not in logs.getvalue()


def test_with_a_corrected_key_the_next_pass_looks_back_to_the_last_good_one(aws, elevenlabs, archive_all):
    run(NOW)
    elevenlabs.key = "another"
    elevenlabs.add(conversation("conv_1", ended=-HOUR))
    later = NOW + timedelta(days=5)
    assert "error" in run(later)

    boto3.client("secretsmanager").put_secret_value(SecretId="elevenlabs", SecretString="another")

    assert run(later)["outcomes"] == {"fetched": 1}


def test_if_the_api_is_down_that_is_logged_and_the_next_pass_looks_back_further(aws, elevenlabs, monkeypatch):
    run(NOW)
    elevenlabs.add(conversation("conv_1", ended=-HOUR))
    elevenlabs.plan("list", *["503"] * 4)
    assert run(NOW + timedelta(days=1))["error"] == "ElevenLabs: answered 503"

    assert run(NOW + timedelta(days=5))["outcomes"] == {"fetched": 1}


@pytest.mark.parametrize("key", ["schlüssel", "two\nlines"])
def test_an_invalid_key_is_refused_like_a_wrong_one(aws, elevenlabs, key):
    boto3.client("secretsmanager").put_secret_value(SecretId="elevenlabs", SecretString=key)

    assert "the key contains characters that no key has" in run()["error"]
    assert elevenlabs.requests == []


def test_without_a_key_only_the_sweep_runs(aws, logs):
    assert run() == {"at": utc(NOW), "swept": 0, "parked_long": 0}

    assert "nothing is fetched without the parameter ElevenLabsApiKey" in logs.getvalue()
