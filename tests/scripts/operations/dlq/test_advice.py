"""What `ops dlq show` advises depends on the step at which a message failed."""

import json

from tests.archiver.conftest import stage, staged_key
from tests.scripts.operations.conftest import tag
from tests.scripts.operations.dlq.conftest import POISON, announcement, call, put_dead_letter

REDRIVE = "Fix the cause, then run: ./scripts/ops dlq redrive archive --yes --stack calls"
DROP = (
    "A redrive cannot help. Look at the payload, then drop the message. Its payload stays in staging/: "
    './scripts/ops dlq drop archive --error "webhook: " --yes --stack calls'
)


def test_a_poison_message_is_not_to_be_redriven(stack, run_ops_json):
    put_dead_letter(stack, stage(stack, b"not json"), **POISON)

    _, found = run_ops_json("dlq", "show", "archive")

    assert found["next"] == DROP


def test_the_advised_drop_takes_all_poison_messages_of_the_step_and_no_other(stack, run_ops_json, tmp_path):
    for name in ("not json", "nor this"):
        put_dead_letter(stack, stage(stack, name.encode()), **POISON)
    put_dead_letter(stack, stage(stack, call("conv_1")), step="audio", error="full_audio is empty.")
    put_dead_letter(stack, stage(stack, call("conv_2")))

    _, found = run_ops_json("dlq", "show", "archive")
    _, dropped = run_ops_json("dlq", "drop", "archive", "--error", "webhook: ", "--save", f"{tmp_path}/saved", "--yes")

    assert found["next"].splitlines() == [REDRIVE, DROP, DROP.replace("webhook", "audio")]
    assert dropped["title"] == "2 of 4 messages dropped"


def test_what_failed_at_every_attempt_is_to_be_redriven(stack, run_ops_json):
    put_dead_letter(stack, stage(stack, call("conv_1")))

    _, found = run_ops_json("dlq", "show", "archive")

    assert found["next"] == REDRIVE


def test_what_mem0_refused_can_be_redriven_once_the_key_is_right(stack, run_ops_json):
    put_dead_letter(stack, announcement("conv_1"), "memory", step="mem0", error="Mem0 refused the key (401).")

    _, found = run_ops_json("dlq", "show", "memory")

    assert found["next"] == "Fix the cause, then run: ./scripts/ops dlq redrive memory --yes --stack calls"


def test_a_message_whose_work_is_done_only_needs_to_be_dropped(stack, run_ops_json):
    check = stage(stack, call("conv_1"))
    tag(stack, staged_key(check))
    put_dead_letter(stack, check)

    _, found = run_ops_json("dlq", "show", "archive")

    drop = './scripts/ops dlq drop archive --error "already done: " --yes --stack calls'
    assert found["next"] == f"The work is done. Drop the message: {drop}"


def test_a_redrive_that_cannot_help_says_so_before_it_is_done(stack, run_ops_json):
    put_dead_letter(stack, json.dumps({"version": 1}), step="claim check", error="The message is not a claim check.")

    _, found = run_ops_json("dlq", "redrive", "archive")

    assert found["next"] == DROP.replace("webhook", "claim check")


def test_people_get_each_advice_on_a_line_of_its_own(stack, run_ops):
    put_dead_letter(stack, stage(stack, b"not json"), **POISON)
    put_dead_letter(stack, stage(stack, call("conv_1")))

    _, out, _ = run_ops("dlq", "show", "archive")

    assert out.splitlines()[-4:] == [
        "Next: Fix the cause, then run:",
        "      ./scripts/ops dlq redrive archive --yes --stack calls",
        "Next: A redrive cannot help. Look at the payload, then drop the message. Its payload stays in staging/:",
        '      ./scripts/ops dlq drop archive --error "webhook: " --yes --stack calls',
    ]
