"""`ops dlq drop`: messages are saved before they are deleted."""

import json
from datetime import datetime, timezone
from typing import Any

import pytest

import reconciler.handler
from tests.archiver.conftest import stage, staged_key
from tests.conftest import Stack
from tests.scripts.operations.conftest import INTERRUPTED, modes, tag
from tests.scripts.operations.dlq.conftest import POISON, announcement, bodies, call, envelope, put_dead_letter


def test_a_drop_is_previewed(stack, run_ops_json, tmp_path):
    put_dead_letter(stack, "a", **POISON)

    code, found = run_ops_json("dlq", "drop", "archive", "--save", str(tmp_path / "dropped"))

    assert (code, found["title"], found["next"]) == (
        0, "1 of 1 message would be dropped", "Run the same command with --yes.",
    )  # fmt: skip
    assert not (tmp_path / "dropped").exists()
    assert bodies(stack, "ArchiveDlqUrl") == ["a"]


def test_dropped_messages_are_saved_in_a_file_that_only_its_owner_may_read(stack, run_ops_json, tmp_path):
    file = tmp_path / "dropped"
    put_dead_letter(stack, "first", **POISON)
    put_dead_letter(stack, "second", **POISON)
    put_dead_letter(stack, "other", step="webhook", error="other")

    code, found = run_ops_json("dlq", "drop", "archive", "--error", "not json", "--save", str(file), "--yes")

    saved = [json.loads(line) for line in file.read_text().splitlines()]
    assert (code, found["title"]) == (0, "2 of 3 messages dropped")
    assert "next" not in found
    assert [(each["Queue"], each["Body"]) for each in saved] == [("archive", "first"), ("archive", "second")]
    assert saved[0]["MessageAttributes"]["error"]["StringValue"] == POISON["error"]
    assert file.stat().st_mode & 0o777 == 0o600
    assert bodies(stack, "ArchiveDlqUrl") == ["other"]


def test_only_its_owner_may_read_dropped_messages_with_any_umask(
    stack, run_ops_json, tmp_path, monkeypatch, open_umask
):
    monkeypatch.chdir(tmp_path)
    put_dead_letter(stack, "a", **POISON)

    run_ops_json("dlq", "drop", "archive", "--yes")

    assert [modes(each) for each in tmp_path.glob("*")] == [
        {each.name: "600"} for each in tmp_path.glob("dropped-archive-*")
    ]


def test_a_saved_body_is_what_the_source_queue_takes(stack, run_ops_json, tmp_path):
    put_dead_letter(stack, envelope(announcement("conv_1")), "memory", ErrorCode="403")

    run_ops_json("dlq", "drop", "memory", "--save", str(tmp_path / "dropped"), "--yes")

    assert json.loads((tmp_path / "dropped").read_text())["Body"] == announcement("conv_1")


def test_without_a_name_the_file_is_written_to_the_current_folder(stack, run_ops, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    put_dead_letter(stack, "a", **POISON)

    _, _, err = run_ops("dlq", "drop", "archive", "--yes")

    (file,) = tmp_path.iterdir()
    assert file.name.startswith("dropped-archive-2")
    assert f"Saved 1 message to {file.name}\n" in err


@pytest.mark.parametrize(("path", "why"), [("taken", "File exists"), ("nowhere/dropped", "No such file or directory")])
def test_no_message_is_dropped_that_cannot_be_saved(stack, run_ops, tmp_path, path, why):
    (tmp_path / "taken").write_text("kept")
    put_dead_letter(stack, "a", **POISON)

    code, _, err = run_ops("dlq", "drop", "archive", "--save", str(tmp_path / path), "--yes")

    assert (code, err.splitlines()[-1]) == (2, f"Nothing was dropped: {tmp_path / path} could not be written ({why}).")
    assert (tmp_path / "taken").read_text() == "kept"
    assert bodies(stack, "ArchiveDlqUrl") == ["a"]


def test_an_interrupted_drop_has_saved_all_and_leaves_the_rest(stack, run_ops, aws_calls, tmp_path):
    sent = {str(number) for number in range(12)}
    for body in sent:
        put_dead_letter(stack, body, **POISON)
    aws_calls.interrupt("DeleteMessage", 5)

    code, _, err = run_ops("dlq", "drop", "archive", "--save", str(tmp_path / "dropped"), "--yes")

    aws_calls.reset()
    saved = {json.loads(line)["Body"] for line in (tmp_path / "dropped").read_text().splitlines()}
    left = bodies(stack, "ArchiveDlqUrl")
    assert (code, err.splitlines()[-1]) == (130, INTERRUPTED)
    assert (saved, len(left), set(left) <= sent) == (sent, 7, True)


def noted(stack: Stack) -> dict[str, Any]:
    """The staged bodies that an erasure looks at, and what is noted about each."""
    return {item: values for (partition, item), values in stack.items().items() if partition == "#unnamed"}


def test_a_dropped_body_is_noted_before_its_message_is_deleted(stack, run_ops, tmp_path, aws_calls):
    check = stage(stack, b"not json")
    put_dead_letter(stack, check, **POISON)
    aws_calls.refuse("DeleteMessage")

    run_ops("dlq", "drop", "archive", "--save", f"{tmp_path}/dropped", "--yes")
    aws_calls.reset()

    assert noted(stack)[staged_key(check)]["dropped_at"].endswith("Z")
    assert bodies(stack, "ArchiveDlqUrl") == [check]


def test_a_dropped_body_stays_in_staging_and_the_hourly_sweep_does_not_send_it_again(stack, run_ops_json, tmp_path):
    dropped, other = stage(stack, b"not json"), stage(stack, b"nor this")
    put_dead_letter(stack, dropped, **POISON)
    run_ops_json("dlq", "drop", "archive", "--save", f"{tmp_path}/dropped", "--yes")

    reconciler.handler.reconcile(datetime.now(timezone.utc), lambda: True)

    assert [json.loads(body)["staged_key"] for body in bodies(stack, "ArchiveQueueUrl")] == [staged_key(other)]
    assert noted(stack).keys() == {staged_key(dropped), staged_key(other)}
    assert "dropped_at" in noted(stack)[staged_key(dropped)]
    assert stack.body(staged_key(dropped)) == b"not json"


def test_only_unfinished_bodies_and_no_other_messages_are_noted_as_dropped(stack, run_ops_json, tmp_path):
    done = stage(stack, call("conv_1"))
    tag(stack, staged_key(done))
    for body in (done, "no claim check", json.dumps({"staged_key": "12025550123/conv_1.json"})):
        put_dead_letter(stack, body, **POISON)
    put_dead_letter(stack, announcement("conv_1"), "memory", **POISON)

    for queue in ("archive", "memory"):
        run_ops_json("dlq", "drop", queue, "--save", f"{tmp_path}/{queue}", "--yes")

    assert noted(stack) == {}
