"""What `ops dlq` cannot do, and what it says then."""

from scripts.operations.logs import log_group
from tests.archiver.conftest import stage, stage_recording
from tests.scripts.operations.dlq.conftest import call, put_dead_letter


def test_an_empty_queue_is_reported_as_empty(run_ops, run_ops_json, tmp_path, monkeypatch, subtests):
    monkeypatch.chdir(tmp_path)

    for words, said in (
        (["show", "archive"], "This queue is empty, or no message fits the options.\n"),
        (["redrive", "archive", "--yes"], "No message to redrive.\n"),
        (["drop", "archive", "--yes"], "No message to drop.\n"),
    ):
        with subtests.test(words[0]):
            code, out, _ = run_ops("dlq", *words)
            _, found = run_ops_json("dlq", *words)

            assert (code, out) == (0, said)
            assert (found["rows"], "next" in found) == ([], False)
    assert list(tmp_path.iterdir()) == []


def test_an_unknown_queue_is_refused(run_ops):
    code, _, err = run_ops("dlq", "show", "archives")

    assert (code, err) == (2, "There is no queue 'archives'. Choose one of archive, memory, audio, transcribe, text.\n")


def test_a_missing_permission_is_named(stack, run_ops, aws_calls, subtests):
    put_dead_letter(stack, stage_recording(stack, "conv_4", b"mp3"))
    put_dead_letter(stack, stage(stack, call("conv_1")))

    for operation, code in (
        ("DescribeStacks", "AccessDenied"),
        ("ReceiveMessage", "AccessDenied"),
        ("GetObject", "AccessDenied"),
        ("HeadObject", "403"),
        ("DescribeStackResource", "AccessDenied"),
        ("FilterLogEvents", "AccessDeniedException"),
        ("GetObjectTagging", "AccessDenied"),
    ):
        with subtests.test(operation):
            aws_calls.reset()
            aws_calls.refuse(operation, code)
            log_group.cache_clear()

            exit_code, out, err = run_ops("dlq", "show", "archive")

            assert (exit_code, out) == (2, "")
            assert err.splitlines()[-1] == f"AWS refused {operation} ({code}): your credentials may not do this."
