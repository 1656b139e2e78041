"""Calls on their way into the rows that Athena searches, and out of them again."""

import json
import time
from typing import Any

import pytest

from scripts.embedded.aws import EmbeddedAws
from tests.archiver.conftest import transcript
from tests.pipeline.conftest import RUNS_COMMANDS, Pipeline, wait_until

PARAMETERS = {"BucketName": "agentic-memory-indexing", "TextTimeoutSeconds": "10", "ArchiveTimeoutSeconds": "10"}
FOUND = "SELECT DISTINCT conversation_id FROM {table} WHERE strpos(words, ' boat') > 0 AND day = '2026-11-22'"
pytestmark = RUNS_COMMANDS


@pytest.fixture(scope="module")
def pipeline(emulator: EmbeddedAws) -> Pipeline:
    return Pipeline(emulator, "indexing", PARAMETERS)


def post(pipeline: Pipeline, *conversation_ids: str) -> None:
    metadata = {"start_time_unix_secs": 1795341600, "phone_call": {"external_number": "+12025550123"}}
    turns = [{"role": "user", "message": "Please move my BOAT.", "time_in_call_secs": 3}]
    for each in conversation_ids:
        body = transcript(each, transcript=turns, metadata=metadata)
        assert pipeline.post(json.dumps(body).encode()).status_code == 200


def query(pipeline: Pipeline, sql: str) -> list[list[Any]]:
    """The rows of a query, as the function that reads calls would ask it."""
    configuration = pipeline._client("lambda").get_function_configuration(FunctionName=reader(pipeline))
    named = configuration["Environment"]["Variables"]
    athena = pipeline._client("athena")
    table = f'"{named["TEXT_DATABASE"]}"."{named["TEXT_TABLE"]}"'
    asked = athena.start_query_execution(
        QueryString=sql.format(table=table),
        WorkGroup=named["ATHENA_WORKGROUP"],
        QueryExecutionContext={"Database": named["TEXT_DATABASE"]},
    )["QueryExecutionId"]
    while (state := athena.get_query_execution(QueryExecutionId=asked)["QueryExecution"]["Status"])["State"] in (
        "QUEUED",
        "RUNNING",
    ):
        time.sleep(0.05)
    assert state["State"] == "SUCCEEDED", state
    rows = athena.get_query_results(QueryExecutionId=asked)["ResultSet"]["Rows"][1:]
    return [[each.get("VarCharValue") for each in row["Data"]] for row in rows]


def reader(pipeline: Pipeline) -> str:
    functions = pipeline._client("lambda").list_functions()["Functions"]
    return next(
        each["FunctionName"]
        for each in functions
        if each["Handler"] == "api.handler.lambda_handler" and "indexing" in each["FunctionName"]
    )


def test_a_call_is_found_by_its_words_soon_after_its_webhook(pipeline):
    post(pipeline, "conv_1", "conv_2")

    wait_until(lambda: pipeline.object_keys("text/") != set())
    wait_until(lambda: pipeline.depth("TextQueueUrl") == 0)

    assert sorted(query(pipeline, FOUND)) == [["conv_1"], ["conv_2"]]
