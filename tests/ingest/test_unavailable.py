"""If a service cannot be reached, the answer is 503."""

import json
from typing import Any

import pytest

import ingest.handler
from ingest.handler import lambda_handler
from tests.ingest.conftest import assert_nothing_was_stored, delete_secret, put_secret, signed


def delete_bucket(aws) -> None:
    aws.s3.delete_bucket(Bucket=aws.bucket)


def delete_queue(aws) -> None:
    aws.sqs.delete_queue(QueueUrl=aws.outputs["ArchiveQueueUrl"])


@pytest.mark.parametrize("breakage", [delete_secret, delete_bucket, delete_queue])
def test_a_service_out_of_reach_is_a_503(aws, context, breakage):
    breakage(aws)

    response = lambda_handler(signed(), context)

    assert response["statusCode"] == 503
    assert json.loads(response["body"]) == {"error": "The webhook could not be stored now. Please send it again."}


def test_an_unreadable_secret_is_never_a_401_not_even_for_forgeries(aws, context):
    delete_secret(aws)

    assert lambda_handler(signed(secret="wsec_forged"), context)["statusCode"] == 503
    assert_nothing_was_stored(aws)


@pytest.mark.parametrize("value", [" ", "\n"])
def test_an_empty_secret_is_a_503_even_for_a_signature_with_an_empty_key(aws, context, value):
    put_secret(aws, value)

    response = lambda_handler(signed(secret=""), context)

    assert response["statusCode"] == 503
    assert_nothing_was_stored(aws)


def seconds_of_silence(client: Any) -> float:
    """The longest time that a call may take: its attempts, and a pause of one second between two of them."""
    config = client.meta.config
    attempts = config.retries["total_max_attempts"]
    return attempts * (config.connect_timeout + config.read_timeout) + (attempts - 1)


def test_if_one_service_does_not_answer_ours_comes_within_eight_seconds(aws):
    clients = ingest.handler.aws()

    assert seconds_of_silence(clients.s3) < 8
    assert seconds_of_silence(clients.sqs) < 8
    assert seconds_of_silence(clients.secret.client) < 8


def test_a_service_out_of_reach_is_counted_by_its_name(aws, context, capsys):
    delete_bucket(aws)

    lambda_handler(signed(), context)

    metrics = [json.loads(line) for line in capsys.readouterr().out.splitlines() if '"_aws"' in line]
    assert [(each["WebhookUnavailable"], each.get("reason")) for each in metrics] == [([1.0], "S3"), ([1.0], None)]
