"""Signed addresses: what they lead to, and for how long."""

from datetime import datetime, timedelta, timezone
from typing import Any
from urllib.parse import parse_qs, urlsplit

import boto3
import httpx
import pytest
import requests

from api.addresses import SIGNING, sign
from shared.times import utc
from tests.api.conftest import Get, audio, call, stage

NOW = datetime(2026, 11, 22, 10, 0, tzinfo=timezone.utc)


@pytest.fixture
def archived(aws: Any, archive: Any) -> None:
    archive(stage(aws, call()), stage(aws, audio()))


def test_the_address_of_a_recording_leads_to_its_bytes(archived, get: Get) -> None:
    answer = get("/calls/conv_1/audio")

    heard = requests.get(answer["url"], timeout=5)
    assert (heard.content, heard.headers["Content-Type"]) == (b"ID3 sound", "audio/mpeg")
    assert answer["content_type"] == "audio/mpeg"


def test_the_address_of_the_json_leads_to_it(archived, get: Get) -> None:
    answer = get("/calls/conv_1/json")

    assert requests.get(answer["url"], timeout=5).json()["conversation_id"] == "conv_1"
    assert answer["content_type"] == "application/json"


def test_an_address_lives_for_15_minutes(archived, get: Get) -> None:
    before = utc(datetime.now(timezone.utc) + timedelta(minutes=15))
    answer = get("/calls/conv_1/audio")

    assert before <= answer["expires_at"] <= utc(datetime.now(timezone.utc) + timedelta(minutes=15))
    assert parse_qs(urlsplit(answer["url"]).query)["X-Amz-Expires"] == ["900"]


def test_only_a_download_has_a_name_and_it_is_not_the_number(archived, get: Get) -> None:
    shown, saved = (parse_qs(urlsplit(get("/calls/conv_1/audio", query)["url"]).query) for query in ("", "download=1"))

    assert "response-content-disposition" not in shown
    assert saved["response-content-disposition"] == ['attachment; filename="conv_1.mp3"']


@pytest.mark.parametrize("region", ["eu-central-1", "us-east-1", "ap-southeast-2"])
def test_an_address_names_the_buckets_region_and_host(region: str) -> None:
    s3 = boto3.client("s3", config=SIGNING, region_name=region)

    url = urlsplit(sign(s3, "calls", "1/conv_1.mp3", "audio/mpeg", download=False, now=NOW)["url"])

    assert url.hostname in (f"calls.s3.{region}.amazonaws.com", "calls.s3.amazonaws.com")
    assert url.hostname != "calls.s3.amazonaws.com" or region == "us-east-1"
    assert f"/{region}/s3/aws4_request" in parse_qs(url.query)["X-Amz-Credential"][0]


def test_an_address_of_the_embedded_aws_is_on_its_host() -> None:
    s3 = boto3.client("s3", config=SIGNING, endpoint_url="http://127.0.0.1:4566")

    url = sign(s3, "calls", "1/conv_1.mp3", "audio/mpeg", download=False, now=NOW)["url"]

    assert httpx.URL(url).copy_with(query=None) == "http://127.0.0.1:4566/calls/1/conv_1.mp3"


def test_a_call_without_a_recording_has_no_address_of_one(aws, archive, get: Get) -> None:
    archive(stage(aws, call()))

    assert get("/calls/conv_1/audio")["status"] == 404


@pytest.mark.parametrize("query", ["download=2", "download=", "download=true", "as=mp3"])
def test_the_parameters_of_an_address_are_checked(archived, get: Get, query: str) -> None:
    assert get("/calls/conv_1/audio", query)["status"] == 400
