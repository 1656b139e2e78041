"""What `ops dlq show` advises depends on the step at which a message failed."""

import json

import pytest
from boto3.session import Session

from scripts.operations.dead_letter_advice import advise, show_payload
from scripts.operations.dead_letters import DeadLetter
from scripts.operations.stack import Stack as LocalStack
from scripts.operations.view import View, split_command
from tests.archiver.conftest import stage, stage_recording, staged_key
from tests.conftest import Stack
from tests.scripts.operations.conftest import tag
from tests.scripts.operations.dlq.conftest import POISON, announcement, call, put_dead_letter

REDRIVE = "Fix the cause, then run: ./scripts/ops dlq redrive archive --yes --stack calls"
IN_CODE = "If the code or a parameter is the cause, change it and deploy: make deploy STACK=calls"
DROP = './scripts/ops dlq drop archive --error "webhook: " --yes --stack calls'


def look(stack: Stack, check: str, payload: str = "Look at the payload", to: str = "-") -> str:
    command = f'aws s3 cp "s3://{stack.bucket}/{staged_key(check)}" {to}'
    return f"A redrive cannot help. {payload}: {command}"


def drop(step: str, what: str = "the message. Its payload stays") -> str:
    return f"Then drop {what} in staging/: {DROP.replace('webhook', step)}"


def test_a_poison_message_is_not_to_be_redriven_and_a_command_shows_its_payload(stack, run_ops_json):
    check = stage(stack, b"not json")
    put_dead_letter(stack, check, **POISON)

    _, found = run_ops_json("dlq", "show", "archive")

    assert found["next"].splitlines() == [look(stack, check), drop("webhook")]
    assert found["rows"][0]["staged_key"] == staged_key(check)


def test_a_recording_that_is_poison_is_saved_to_a_file(stack, run_ops_json):
    check = stage_recording(stack, None, b"mp3")
    put_dead_letter(stack, check, step="audio", error="No call is named.")

    _, found = run_ops_json("dlq", "show", "archive")

    assert found["next"].splitlines() == [look(stack, check, to="."), drop("audio")]


def test_the_command_that_shows_a_payload_of_a_local_stack_names_its_address(stack):
    local = LocalStack("calls", stack.outputs, Session(), "http://127.0.0.1:4566")

    command = show_payload(local, "staging/1.json")

    shown = f'aws s3 cp "s3://{stack.bucket}/staging/1.json" - --endpoint-url "http://127.0.0.1:4566"'
    assert split_command(f"Look: {command}") == ("Look:", shown)


def test_a_payload_that_is_gone_is_not_said_to_stay(stack, run_ops_json):
    check = stage(stack, b"not json")
    stack.s3.delete_object(Bucket=stack.bucket, Key=staged_key(check))
    put_dead_letter(stack, check, step="staged body", error="There is no staged body under the claim check's key.")

    _, found = run_ops_json("dlq", "show", "archive")

    advice = "A redrive cannot help. Its payload is gone. Drop the message: "
    assert found["next"] == advice + DROP.replace("webhook", "staged body")


def test_a_message_without_a_reason_and_without_a_payload_is_not_said_to_be_archived(stack, run_ops_json):
    check = stage(stack, b"not json")
    stack.s3.delete_object(Bucket=stack.bucket, Key=staged_key(check))
    put_dead_letter(stack, check)

    _, found = run_ops_json("dlq", "show", "archive")

    (row,) = found["rows"]
    assert row["step"] == "already done"
    assert row["error"].startswith("The payload is no longer in staging/")
    assert found["next"] == f"Nothing is left to do. Drop the message: {DROP.replace('webhook', 'already done')}"


@pytest.mark.parametrize("queue", ["archive", "memory"])
def test_a_poison_message_that_names_no_payload_is_only_to_be_dropped(stack, run_ops_json, queue):
    put_dead_letter(stack, json.dumps({"version": 1}), queue, step="message", error="The message cannot be read.")

    _, found = run_ops_json("dlq", "show", queue)

    command = DROP.replace("webhook", "message").replace("archive", queue)
    assert found["next"] == f"A redrive cannot help. Drop the message: {command}"


def test_the_advised_drop_takes_all_poison_messages_of_the_step_and_no_other(stack, run_ops_json, tmp_path):
    first, second = stage(stack, b"not json"), stage(stack, b"nor this")
    put_dead_letter(stack, first, **POISON)
    put_dead_letter(stack, second, **POISON)
    audio = stage(stack, call("conv_1"))
    put_dead_letter(stack, audio, step="audio", error="full_audio is empty.")
    put_dead_letter(stack, stage(stack, call("conv_2")))

    _, found = run_ops_json("dlq", "show", "archive")
    _, dropped = run_ops_json("dlq", "drop", "archive", "--error", "webhook: ", "--save", f"{tmp_path}/saved", "--yes")

    advice = found["next"].splitlines()
    all_payloads = "Look at the 2 payloads. This shows the first"
    assert advice[2] in [look(stack, each, all_payloads) for each in (first, second)]
    assert [*advice[:2], *advice[3:]] == [
        IN_CODE, REDRIVE, drop("webhook", "the messages. 2 payloads stay"), look(stack, audio), drop("audio"),
    ]  # fmt: skip
    assert dropped["title"] == "2 of 4 messages dropped"


def test_what_failed_at_every_attempt_is_to_be_redriven(stack, run_ops_json):
    put_dead_letter(stack, stage(stack, call("conv_1")))

    _, found = run_ops_json("dlq", "show", "archive")

    assert found["next"].splitlines() == [IN_CODE, REDRIVE]


FIXES = {
    "key": ("mem0", "Mem0 refused the key (401).", 'PARAMETERS="Mem0ApiKey=ask"'),
    "project": ("mem0", "Mem0 refused the key for this project (403).", 'PARAMETERS="Mem0ApiKey=ask"'),
    "address": ("mem0", "The stack's parameter Mem0Host must be a valid address.", 'PARAMETERS="Mem0Host=https://…"'),
    "config": ("configuration", "The stack's parameter MemoryConfig is not JSON.", 'PARAMETERS="MemoryConfig=ask"'),
    "package": ("configuration", "The package is not built for oss: run MEMORY_BACKEND=oss make deploy.",
                "MEMORY_BACKEND=oss"),
}  # fmt: skip


@pytest.mark.parametrize(("step", "error", "given"), FIXES.values(), ids=FIXES)
def test_what_a_deployment_cures_is_redriven_after_it(stack, run_ops_json, run_ops, step, error, given):
    for conversation_id in ("conv_1", "conv_2"):
        put_dead_letter(stack, announcement(conversation_id), "memory", step=step, error=error)

    _, found = run_ops_json("dlq", "show", "memory")
    _, out, _ = run_ops("dlq", "show", "memory")

    cure, redrive = found["next"].splitlines()
    assert cure.endswith(f": make deploy STACK=calls {given}")
    assert redrive == REDRIVE.replace("archive", "memory")
    assert f"      make deploy STACK=calls {given}" in out.splitlines()


def test_on_a_local_stack_a_deployment_is_a_restart_that_deletes_the_messages(stack):
    message = {
        "MessageId": "1", "Body": announcement("conv_1"),
        "MessageAttributes": {"step": {"StringValue": "mem0"}, "error": {"StringValue": "Mem0 refused the key (401)."}},
    }  # fmt: skip
    letter = DeadLetter(View("calls", local=False, as_json=False).stack, "memory", message, dict)

    cure, _ = advise(View(None, local=True, as_json=False), "memory", [letter]).splitlines()

    assert "It deletes everything, these messages too" in cure
    assert split_command(cure)[1] == 'PARAMETERS="Mem0ApiKey=ask" make local'


def test_a_message_whose_work_is_done_only_needs_to_be_dropped(stack, run_ops_json):
    check = stage(stack, call("conv_1"))
    tag(stack, staged_key(check))
    put_dead_letter(stack, check)

    _, found = run_ops_json("dlq", "show", "archive")

    assert found["next"] == f"Nothing is left to do. Drop the message: {DROP.replace('webhook', 'already done')}"


def test_a_redrive_that_cannot_help_says_so_before_it_is_done(stack, run_ops_json):
    put_dead_letter(stack, json.dumps({"version": 1}), step="claim check", error="The message is not a claim check.")

    _, found = run_ops_json("dlq", "redrive", "archive")

    command = DROP.replace("webhook", "claim check")
    assert found["next"] == f"A redrive cannot help. Drop the message: {command}"


def test_people_get_each_advice_on_a_line_of_its_own(stack, run_ops):
    check = stage(stack, b"not json")
    put_dead_letter(stack, check, **POISON)
    put_dead_letter(stack, stage(stack, call("conv_1")))

    _, out, _ = run_ops("dlq", "show", "archive")

    assert out.splitlines()[-8:] == [
        "Next: If the code or a parameter is the cause, change it and deploy:",
        "      make deploy STACK=calls",
        "Next: Fix the cause, then run:",
        "      ./scripts/ops dlq redrive archive --yes --stack calls",
        "Next: A redrive cannot help. Look at the payload:",
        f'      aws s3 cp "s3://{stack.bucket}/{staged_key(check)}" -',
        "Next: Then drop the message. Its payload stays in staging/:",
        '      ./scripts/ops dlq drop archive --error "webhook: " --yes --stack calls',
    ]
