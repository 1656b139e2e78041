"""Webhooks from addresses that ElevenLabs does not publish."""

import json

import pytest

import ingest.handler
from ingest.handler import lambda_handler
from tests.ingest.conftest import assert_nothing_was_stored, counted, signed


def from_address(source: str, event: dict) -> dict:
    return event | {"requestContext": {"http": {"sourceIp": source}}}


@pytest.mark.parametrize("allowed", ["203.0.113.7", "198.51.100.1,203.0.113.7", "203.0.113.0/24", "203.0.113.9/24"])
@pytest.mark.parametrize("mode", ["off", "metric", "filter"])
def test_a_webhook_from_an_allowed_address_is_accepted_in_every_mode(aws, context, monkeypatch, capsys, mode, allowed):
    monkeypatch.setenv("SOURCE_ADDRESSES", mode)
    monkeypatch.setenv("ALLOWED_SOURCES", allowed)

    assert lambda_handler(from_address("203.0.113.7", signed()), context)["statusCode"] == 200
    assert counted("SourceUnknown", capsys.readouterr().out) == 0


@pytest.mark.parametrize("source", ["203.0.113.8", "2001:db8::7", "", "unknown"])
def test_a_webhook_from_another_address_is_accepted_counted_or_refused(aws, context, monkeypatch, capsys, source):
    outcomes = {}
    for mode in ("off", "metric", "filter"):
        monkeypatch.setenv("SOURCE_ADDRESSES", mode)
        ingest.handler.settings.cache_clear()
        status = lambda_handler(from_address(source, signed()), context)["statusCode"]
        outcomes[mode] = (status, counted("SourceUnknown", capsys.readouterr().out))

    assert outcomes == {"off": (200, 0), "metric": (200, 1), "filter": (401, 0)}


def test_the_filter_stores_nothing_and_logs_a_reason_of_its_own(aws, context, monkeypatch, logs):
    monkeypatch.setenv("SOURCE_ADDRESSES", "filter")

    lambda_handler(from_address("203.0.113.8", signed()), context)
    lambda_handler(from_address("203.0.113.8", signed(secret="wsec_forged")), context)

    assert [json.loads(line)["reason"] for line in logs.getvalue().splitlines()] == ["source", "mismatch"]
    assert_nothing_was_stored(aws)


def test_a_header_cannot_change_the_source_address(aws, context, monkeypatch):
    monkeypatch.setenv("SOURCE_ADDRESSES", "filter")
    event = signed()
    event["headers"]["x-forwarded-for"] = "203.0.113.7"

    assert lambda_handler(from_address("203.0.113.8", event), context)["statusCode"] == 401
