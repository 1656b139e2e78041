"""The operators' tool: finding the stack, saying what is wrong, and filling a past range."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.exceptions import (
    ClientError,
    EndpointConnectionError,
    NoCredentialsError,
    UnauthorizedSSOTokenError,
)

from scripts.aws_session import explained
from scripts.embedded.elevenlabs import ElevenLabs
from scripts.operations.app import global_options_first
from scripts.operations.view import moment, undisturbed
from shared.record import Records
from shared.times import utc
from tests.conftest import Stack, close_clients, fixture_body
from tests.scripts.operations.conftest import INTERRUPTED, deploy_outputs, note, ops, press_ctrl_c

HOURS = timedelta(hours=1)
ROOT = Path(__file__).parents[3]


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
    assert shown["next"] == "Nothing was done. The same command with --yes fetches what is missing."
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


@pytest.mark.parametrize(
    ("words", "said"),
    [
        pytest.param(["backfill"], "Missing option '--since'", id="no range"),
        pytest.param(["backfill", "--since", "yesterday"], "'yesterday' is no time: write 2026-11-22", id="no time"),
        pytest.param(["backfill", "--since", "1h", "--until", "2h"], "the first must be the earlier", id="backwards"),
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


def test_a_local_stack_that_is_not_up_says_how_to_start_one(monkeypatch, capsys, tmp_path):
    monkeypatch.setattr("scripts.operations.stack.OUTPUTS", tmp_path / "outputs.json")

    code, _, err = ops(capsys, "reconcile", "--local")

    assert (code, err) == (2, "There is no local stack. Start one in another terminal: make local\n")


def test_without_a_key_of_elevenlabs_there_is_nothing_to_fill_from(stack, capsys):
    code, _, err = ops(capsys, "backfill", "--since", "1d", "--stack", "calls")

    assert code == 2
    assert "deploy it with the parameter ElevenLabsApiKey" in err


def test_a_refused_key_ends_in_a_sentence(aws, elevenlabs, capsys):
    elevenlabs.key = "another"

    code, _, err = ops(capsys, "backfill", "--since", "1d", "--stack", "calls")

    assert (code, err.splitlines()[-1]) == (1, "ElevenLabs: the key is refused (401).")


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
        with undisturbed():
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
    assert moment("2026-11-22") == datetime(2026, 11, 22, tzinfo=timezone.utc)
    assert moment("2026-11-22T10:00+02:00") == datetime(2026, 11, 22, 8, tzinfo=timezone.utc)
    assert abs(datetime.now(timezone.utc) - moment("36h") - 36 * HOURS) < timedelta(minutes=1)


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


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """The project as it is installed, with an environment that is ready."""
    folder = tmp_path / "project"
    for part in ("scripts", "shared", "archiver", "memory_writer", "reconciler", "canary", "ingest"):
        shutil.copytree(ROOT / part, folder / part, ignore=shutil.ignore_patterns("__pycache__"))
    for file in ("Makefile", "requirements-dev.txt"):
        shutil.copy(ROOT / file, folder)
    python = folder / ".venv/bin/python"
    python.parent.mkdir(parents=True)
    python.write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
    python.chmod(0o700)
    (folder / ".venv/ready").touch()
    return folder


HOSTILE = ("typer", "rich", "json", "sitecustomize", "usercustomize", "scripts")


@pytest.fixture
def downloads(tmp_path: Path) -> Path:
    """A folder with modules that somebody else wrote: each leaves a file when it runs."""
    folder = tmp_path / "downloads"
    folder.mkdir()
    for name in HOSTILE:
        (folder / f"{name}.py").write_text(f"open({str(folder / 'ran')!r}, 'a').write('{name} ')\n")
    return folder


@pytest.mark.parametrize("python_path", [None, "", ":", ".", "/nowhere:", "the folder"])
def test_no_module_of_the_current_folder_runs_with_the_operators_credentials(project, downloads, python_path):
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    if python_path is not None:
        environment["PYTHONPATH"] = str(downloads) if python_path == "the folder" else python_path

    done = subprocess.run(
        [project / "scripts/ops", "--help"], cwd=downloads, env=environment, capture_output=True, text=True, timeout=60
    )

    assert (done.returncode, done.stderr) == (0, "")
    assert "rotate-secret" in done.stdout
    assert sorted(each.name for each in downloads.iterdir()) == sorted(f"{name}.py" for name in HOSTILE)


def test_a_file_that_lies_in_the_project_runs_in_place_of_no_library(project, tmp_path):
    ran = tmp_path / "ran"
    for name in ("msgspec", "typer", "json"):
        (project / f"{name}.py").write_text(f"open({str(ran)!r}, 'a').write('{name} ')\n")

    done = subprocess.run(["./scripts/ops", "--help"], cwd=project, capture_output=True, text=True, timeout=60)

    assert (done.returncode, done.stderr, ran.exists()) == (0, "", False)


def test_settings_of_make_run_nothing_before_the_tool(project, tmp_path):
    ran, settings = tmp_path / "ran", tmp_path / "settings.mk"
    settings.write_text(f"$(shell touch {ran})\n")

    done = subprocess.run(
        [project / "scripts/ops", "--help"], cwd=tmp_path, env=os.environ | {"MAKEFILES": str(settings)},
        capture_output=True, text=True, timeout=60,
    )  # fmt: skip

    assert (done.returncode, done.stderr, ran.exists()) == (0, "", False)


@pytest.mark.skipif(not shutil.which("git"), reason="git is not installed")
@pytest.mark.parametrize(
    "name",
    [
        "erasure-20261122T100000Z.json", "erasure-20261122T100000Z.txt", "dropped-archive-20261122T100000Z.jsonl",
        "calls.zip", "calls.tar.gz", "calls.zip.parts/records/conv_1.json", "there/.export/journal.jsonl",
        "there/records/conv_1.json", "there/12025550123/conv_1.mp3", "there/no-phone/conv_1.json",
        "there/manifest.json",
    ],
)  # fmt: skip
def test_git_takes_no_file_of_the_tool_that_holds_personal_data(tmp_path, name):
    shutil.copy(ROOT / ".gitignore", tmp_path)
    (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / name).touch()
    subprocess.run(["git", "init", "-q"], cwd=tmp_path, check=True, timeout=60)

    listed = subprocess.run(
        ["git", "status", "--porcelain", "--untracked-files=all"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )

    assert listed.stdout == "?? .gitignore\n"


def test_the_tool_finds_its_project_whatever_cdpath_says(project, tmp_path):
    (tmp_path / "elsewhere/scripts").mkdir(parents=True)

    done = subprocess.run(
        ["scripts/ops", "dlq", "show"], cwd=project, env=os.environ | {"CDPATH": str(tmp_path / "elsewhere")},
        capture_output=True, text=True, timeout=60,
    )  # fmt: skip

    assert done.returncode == 2
    assert "Missing argument" in done.stderr
