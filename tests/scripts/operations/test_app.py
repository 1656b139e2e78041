"""The operators' tool: finding the stack, and saying what is wrong."""

import json
import signal
import socket
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest
from botocore.exceptions import (
    ClientError,
    EndpointConnectionError,
    NoCredentialsError,
    UnauthorizedSSOTokenError,
)

from scripts.aws_session import explained
from scripts.operations.app import global_options_first
from scripts.operations.view import delay_ctrl_c, parse_time
from tests.scripts.operations.conftest import INTERRUPTED, ops, press_ctrl_c

HOURS = timedelta(hours=1)
ROOT = Path(__file__).parents[3]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        pytest.param(["backfill"], "Missing option '--since'", id="no range"),
        pytest.param(["backfill", "--since", "yesterday"], "'yesterday' is not a time: write 2026-11-22", id="no time"),
        pytest.param(
            ["backfill", "--since", "1h", "--until", "2h"], "--since must be earlier than --until.", id="backwards"
        ),
        pytest.param(["backfill", "--since", "1h", "--per-second", "0"], "--per-second", id="no pace"),
        pytest.param(["bakfill"], "Did you mean 'backfill'?", id="no such command"),
        pytest.param(["reconcile"], "has no output ReconcilerFunctionName", id="another kind of stack"),
    ],
)
def test_a_wrong_command_says_what_is_wrong(stack, capsys, words, said):
    code, out, err = ops(capsys, "--stack", "calls", *words)

    assert (code, out) == (2, "")
    assert said in " ".join(err.split())


def test_a_stack_that_is_not_there_is_named(aws, capsys):
    code, _, err = ops(capsys, "reconcile", "--stack", "nothing")

    assert code == 2
    assert err == "There is no stack nothing in us-east-1. Name it with --stack, or use --local.\n"


ERRORS = [
    pytest.param(["backfill", "--since", "yesterday"], 2, "Invalid value", id="usage"),
    pytest.param(["bakfill"], 2, "No such command 'bakfill'.", id="no such command"),
    pytest.param(["status", "--local", "--stack", "calls"], 2, "--local and --stack name two stacks", id="arguments"),
    *(
        pytest.param([*words.split(), "--stack", "nothing"], 2, "There is no stack nothing in us-east-1.", id=words)
        for words in (
            "status", "verify conv_1", "verify --since 1h", "replay --since 1h", "reconcile", "canary", "dlq list",
            "backfill --since 1d", "send payload.json", "erase +12025550123", "rotate-secret --status",
            "export folder --since 1d", "report --month 2026-10", "dlq show archive",
            "dlq redrive archive", "dlq drop archive --error x",
        )
    ),
]  # fmt: skip


@pytest.mark.parametrize(("words", "code", "said"), ERRORS)
def test_an_error_for_machines_is_one_object_on_stdout(stack, capsys, tmp_path, monkeypatch, words, code, said):
    monkeypatch.chdir(tmp_path)
    Path("payload.json").write_text("{}")

    exit_code, out, err = ops(capsys, *words, "--json")

    error = json.loads(out)
    assert (exit_code, error.keys(), error["code"]) == (code, {"error", "code"}, code)
    assert error["error"].startswith(said)
    assert said not in err


@pytest.mark.parametrize(("words", "code", "said"), ERRORS)
def test_an_error_for_people_is_on_stderr(stack, capsys, tmp_path, monkeypatch, words, code, said):
    monkeypatch.chdir(tmp_path)
    Path("payload.json").write_text("{}")

    exit_code, out, err = ops(capsys, *words)

    assert (exit_code, out) == (code, "")
    assert said in err


def test_an_interrupted_command_is_an_error_for_machines_too(run_ops_json, aws_calls):
    aws_calls.interrupt("DescribeAlarms", 1)

    assert run_ops_json("status") == (130, {"error": INTERRUPTED, "code": 130})


@pytest.fixture
def killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A local stack whose process was killed: its outputs are there, and nothing listens any more."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        url = f"http://127.0.0.1:{server.getsockname()[1]}"
    outputs = {"StackName": "agentic-memory", "AwsEndpointUrl": url, "Region": "us-east-1",
               "AccessKeyId": "test", "SecretAccessKey": "test", "PostCallUrl": f"{url}/post-call"}  # fmt: skip
    (tmp_path / "outputs.json").write_text(json.dumps(outputs))
    (tmp_path / "payload.json").write_text("{}")
    monkeypatch.setattr("scripts.operations.stack.OUTPUTS", tmp_path / "outputs.json")
    monkeypatch.chdir(tmp_path)
    return url


@pytest.mark.parametrize("words", [
    "status", "verify conv_1", "replay --since 1h", "reconcile", "canary", "dlq list", "dlq show archive",
    "backfill --since 1d", "send payload.json", "erase +12025550123", "rotate-secret --status",
    "export folder --since 1d", "report --month 2026-10",
])  # fmt: skip
def test_a_local_stack_that_was_killed_is_told_by_each_command(capsys, killed, words):
    code, out, err = ops(capsys, *words.split(), "--local")

    assert (code, out) == (2, "")
    assert err.splitlines()[-1] == f"Nothing answers at {killed}. Start the local stack: make local"


def test_a_local_stack_that_is_not_up_says_how_to_start_one(monkeypatch, capsys, tmp_path):
    monkeypatch.setattr("scripts.operations.stack.OUTPUTS", tmp_path / "outputs.json")

    code, _, err = ops(capsys, "reconcile", "--local")

    assert (code, err) == (2, "There is no local stack. Start one in another terminal: make local\n")


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (ClientError({"Error": {"Code": "AccessDenied"}}, "GetItem"), "AWS refused GetItem (AccessDenied): your"),
        (ClientError({"Error": {"Code": "403"}}, "HeadObject"), "AWS refused HeadObject (403): your"),
        (ClientError({"Error": {"Code": "ExpiredTokenException"}}, "GetItem"), "Your AWS credentials have expired"),
        (ClientError({"Error": {"Code": "InvalidClientTokenId"}}, "GetItem"), "AWS does not accept these credentials"),
        (NoCredentialsError(), "There are no AWS credentials"),
        (UnauthorizedSSOTokenError(), "There are no AWS credentials"),
        (EndpointConnectionError(endpoint_url="x"), "AWS cannot be reached (EndpointConnectionError): look at"),
        (
            ClientError({"Error": {"Code": "InternalError"}}, "GetItem"),
            "The AWS request GetItem failed (Int",
        ),
    ],
)
def test_errors_of_aws_are_explained(error, said):
    assert str(explained(error)).startswith(said)


def test_only_the_stack_itself_is_said_not_to_exist():
    missing = {"Error": {"Code": "ValidationError", "Message": "Resource X does not exist for stack calls"}}

    error = explained(ClientError(missing, "DescribeStackResource"))

    assert (str(error), error.code) == ("The AWS request DescribeStackResource failed (ValidationError).", 1)


@pytest.mark.parametrize(("times", "expected"), [(1, ["the whole block"]), (2, [])])
def test_ctrl_c_waits_for_what_is_under_way_and_a_second_one_does_not(times, expected):
    done = []

    def work() -> None:
        with delay_ctrl_c():
            for _ in range(times):
                press_ctrl_c()
            done.append("the whole block")

    with pytest.raises(KeyboardInterrupt):
        work()

    assert done == expected
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_global_options_may_stand_anywhere():
    assert global_options_first(["backfill", "--json", "--since", "1d", "--stack", "a"]) == [
        "--json", "--stack", "a", "backfill", "--since", "1d",
    ]  # fmt: skip


def test_times_are_utc_unless_they_say_otherwise():
    assert parse_time("2026-11-22") == datetime(2026, 11, 22, tzinfo=timezone.utc)
    assert parse_time("2026-11-22T10:00+02:00") == datetime(2026, 11, 22, 8, tzinfo=timezone.utc)
    for text, long_ago in (("90m", 1.5 * HOURS), ("36h", 36 * HOURS), ("7d", 168 * HOURS)):
        assert abs(datetime.now(timezone.utc) - parse_time(text) - long_ago) < timedelta(minutes=1)


@pytest.mark.parametrize("command", ["verify", "replay", "export", "backfill"])
def test_help_shows_each_way_to_write_a_time(capsys, command):
    _, out, _ = ops(capsys, command, "--help")

    assert "2026-11-22, 2026-11-22T10:00, or 90m, 36h, 7d ago" in " ".join(out.split())


@pytest.mark.parametrize(
    "command",
    ["status", "verify", "replay", "send", "reconcile", "backfill", "dlq list", "dlq show", "dlq redrive", "dlq drop"],
)
def test_every_command_has_help_with_an_example(capsys, command):
    code, out, _ = ops(capsys, *command.split(), "--help")

    assert code == 0
    assert "Example: ops " in out
    assert command.split()[-1] in out.split("Example:")[1]
    assert (ROOT / "scripts/ops").stat().st_mode & 0o111
