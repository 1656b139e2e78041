"""`ops calls`, `ops show` and `ops browse`: what they ask the stack's API, and what an operator sees."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest

from tests.raw_host import RawHost
from tests.scripts.operations.conftest import deploy_outputs

ROOT = Path(__file__).parents[3]
ROW = {
    "conversation_id": "conv_1", "agent_id": "agent_1", "caller": "+12025550123", "started_at": "2026-11-22T10:00:00Z",
    "duration_secs": 48, "status": "done", "outcome": "success", "title": "The dog's ladder", "summary": "About a dog.",
    "audio": "archived", "cost": 288, "archived_at": "2026-11-22T10:01:00Z",
}  # fmt: skip
CALL = ROW | {
    "origin": "webhook", "direction": "inbound", "language": "en", "termination_reason": "",
    "evaluation": [{"id": "goal_met", "name": "goal_met", "result": "success", "rationale": "All jobs have a date."}],
    "collected": [],
    "memories": [{"type": "factual", "state": "done", "reason": None, "count": 1, "memory_ids": ["m1"], "at": None}],
    "files": [{"kind": "json", "name": "conv_1.json", "event": None}],
    "completeness": {"is_complete": True, "explanation": "All that belongs to this call is here."},
    "may": {"hear": True, "numbers": True},
}  # fmt: skip
TURNS = [
    {"index": 0, "role": "user", "message": "Our old dog\x1b[31m no longer climbs.", "at_secs": 75,
     "tool_calls": [], "tool_results": []},
    {"index": 1, "role": "agent", "message": None, "at_secs": 77, "tool_results": [],
     "tool_calls": [{"id": "1", "name": "find_slot", "arguments": {"job": "ladder"}, "type": "webhook"}]},
    {"index": 2, "role": "agent", "message": None, "at_secs": None, "tool_calls": [],
     "tool_results": [{"id": "1", "name": "find_slot", "result": "no slot", "is_error": True, "latency_secs": 1,
                       "error_type": None}]},
]  # fmt: skip


@pytest.fixture
def api(stack) -> Iterator[RawHost]:
    """The API of the stack `calls`, with one page of one call."""

    def answer(target: str) -> bytes:
        path = urlsplit(target).path
        return json.dumps(
            {"turns": TURNS} if path.endswith("/transcript") else CALL if path != "/calls" else
            {"calls": [ROW], "next": None}
        ).encode()  # fmt: skip

    with RawHost(answer) as host:
        deploy_outputs(stack.outputs | {"ApiUrl": host.url})
        yield host


def asked(api: RawHost) -> list[dict[str, list[str]]]:
    return [parse_qs(urlsplit(each).query) for each in api.requests]


def test_calls_are_listed_with_what_one_looks_for(api, run_ops):
    code, out, _ = run_ops("calls")

    assert code == 0
    assert "1 call" in out
    for told in ("2026-11-22T10:00:00Z", "+12025550123", "conv_1", "The dog's ladder"):
        assert told in out
    assert "ops show ID" in out


def test_every_filter_is_asked_of_the_api(api, run_ops_json):
    words = (
        "--text", "dog & ladder", "--caller", "+12025550123", "--agent", "agent_1", "--agent", "agent_2",
        "--since", "2026-11-01", "--until", "2026-12-01T10:00", "--min-seconds", "0", "--max-seconds", "60",
        "--outcome", "success", "--audio", "archived", "--limit", "3",
    )  # fmt: skip

    code, found = run_ops_json("calls", *words)

    assert (code, found["rows"]) == (0, [ROW])
    assert asked(api) == [{
        "text": ["dog & ladder"], "caller": ["+12025550123"], "agent": ["agent_1", "agent_2"], "limit": ["3"],
        "from": ["2026-11-01T00:00:00Z"], "to": ["2026-12-01T10:00:00Z"], "min_seconds": ["0"], "max_seconds": ["60"],
        "outcome": ["success"], "audio": ["archived"],
    }]  # fmt: skip


def test_short_and_empty_pages_are_followed_until_there_are_enough_calls(api, run_ops_json):
    pages = iter([([ROW], "a"), ([], "b"), ([ROW, ROW], "c")])

    def answer(_: str) -> bytes:
        calls, cursor = next(pages)
        return json.dumps({"calls": calls, "next": cursor}).encode()

    api.body = answer

    _, found = run_ops_json("calls", "--limit", "3")

    assert len(found["rows"]) == 3
    assert "There may be older calls" in found["next"]
    assert [each.get("cursor") for each in asked(api)] == [None, ["a"], ["b"]]


def test_a_search_that_finds_nothing_in_many_pages_does_not_say_that_there_is_nothing(api, run_ops, monkeypatch):
    monkeypatch.setattr("scripts.operations.reading.MOST_PAGES", 3)
    api.body = b'{"calls": [], "next": "more"}'

    _, out, _ = run_ops("calls", "--text", "cat")

    assert len(api.requests) == 3
    assert "There may be older calls" in out
    assert "no such calls" not in out


def test_no_such_calls_is_said(api, run_ops):
    api.body = b'{"calls": [], "next": null}'

    assert run_ops("calls", "--text", "cat")[:2] == (0, "There are no such calls.\n")


def test_a_call_is_shown_with_its_words_tools_receipts_and_files(api, run_ops, archive):
    archive("conv_1")

    code, out, _ = run_ops("show", "conv_1")

    assert code == 0
    lines = [" ".join(line.split()) for line in out.splitlines()]
    assert "1:15 user Our old dog\\x1b[31m no longer climbs." in lines
    assert 'calls find_slot {"job": "ladder"}' in lines
    assert "find_slot failed no slot" in lines
    assert "All that belongs to this call is here." in out
    assert "factual" in out
    assert "s3://" in out
    assert "/conv_1.json" in out


def test_a_call_is_printed_for_programs(api, run_ops_json, stack, archive):
    archive("conv_1")

    code, found = run_ops_json("show", "conv_1")

    assert code == 0
    assert (found["call"], found["turns"]) == (CALL, TURNS)
    assert f"s3://{stack.bucket}/12025550123/conv_1.json" in found["files"]


def test_an_id_is_one_part_of_the_path(api, run_ops):
    run_ops("show", "../stats?x=1")

    assert api.requests[0] == "GET /calls/..%2Fstats%3Fx%3D1"


@pytest.mark.parametrize(
    ("status", "told", "code"),
    [
        (403, "execute-api:Invoke", 2), (429, "try again", 1), (503, "try again", 1),
    ],
)  # fmt: skip
def test_what_the_gateway_refuses_is_explained(api, run_ops, status, told, code):
    api.status, api.body = status, b'{"message":"Forbidden"}'

    found, _, err = run_ops("calls")

    assert found == code
    assert told in err


def test_the_apis_own_words_and_the_parameter_are_shown(api, run_ops):
    api.status, api.headers["Content-Type"] = 400, "application/problem+json"
    api.body = b'{"title": "Bad Request", "status": 400, "detail": "Not a cursor.", "parameter": "cursor"}'

    assert run_ops("calls") == (2, "", "Not a cursor. (cursor)\n")


@pytest.mark.parametrize("words", [("calls",), ("show", "conv_1"), ("browse", "--no-open")], ids=" ".join)
def test_a_stack_without_an_api_is_told_apart(stack, run_ops, words):
    code, _, err = run_ops(*words)

    assert code == 2
    assert "older than this command" in err
    assert "make deploy" in err


def test_an_api_that_cannot_be_reached_is_said(stack, run_ops):
    deploy_outputs(stack.outputs | {"ApiUrl": "http://127.0.0.1:9"})

    code, _, err = run_ops("calls")

    assert code == 1
    assert "cannot be reached" in err


def test_a_port_that_is_in_use_is_said(api, run_ops):
    code, _, err = run_ops("browse", "--no-open", "--port", api.url.rsplit(":", maxsplit=1)[-1])

    assert code == 2
    assert "Choose another --port" in err


def browse(outputs: dict[str, Any], folder: Path) -> subprocess.Popen[str]:
    code = (
        "import sys; from pathlib import Path; import scripts.operations.stack as stack;"
        "from scripts.operations.app import main;"
        f"stack.OUTPUTS = Path({str(folder / 'outputs.json')!r}); sys.exit(main(['browse', '--local', '--no-open']))"
    )
    (folder / "outputs.json").write_text(json.dumps(outputs))
    return subprocess.Popen(
        [sys.executable, "-c", code], cwd=ROOT, env=os.environ | {}, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip


def test_browse_serves_the_page_and_the_api_until_ctrl_c(tmp_path):
    with RawHost(b'{"calls": [], "next": null}') as api:
        keys = {"AccessKeyId": "test", "SecretAccessKey": "test", "Region": "us-east-1", "AwsEndpointUrl": api.url}
        process = browse(keys | {"StackName": "calls", "ApiUrl": api.url, "BucketName": "calls"}, tmp_path)
        try:
            url = process.stdout.readline().strip()
            page, calls = httpx.get(url), httpx.get(f"{url}api/calls")
            process.send_signal(signal.SIGINT)
            _, said = process.communicate(timeout=30)
        finally:
            process.kill()

    assert (page.status_code, page.headers["Content-Type"]) == (200, "text/html; charset=utf-8")
    assert calls.json() == {"calls": [], "next": None}
    assert (process.returncode, "Stopped." in said, "Traceback" in said) == (0, True, False)
