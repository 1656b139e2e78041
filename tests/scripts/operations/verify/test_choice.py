"""Which calls `ops verify` checks, and what it cannot do."""

from shared.record import Records
from tests.conftest import forget
from tests.scripts.operations.conftest import CALLER, INTERRUPTED, deploy_outputs, note, table
from tests.scripts.operations.verify.conftest import FOLDER, json_key, replace


def test_calls_are_chosen_in_the_same_way_as_for_a_replay(stack, run_ops_json, archive, subtests):
    archive("conv_1")
    archive("conv_2", agent_id="agent_2")
    archive("conv_3", number="anonymous")

    for choice, chosen in (
        ("conv_1", ["conv_1"]),
        (f"--caller {CALLER}", ["conv_1", "conv_2"]),
        ("--caller no-phone", ["conv_3"]),
        ("--since 2026-11-21 --agent agent_2", ["conv_2"]),
        ("--since 2026-11-21", ["conv_1", "conv_2", "conv_3"]),
        ("--since 2026-11-21T12:01", []),
        ("--since 2026-11-20 --until 2026-11-21T12:00", []),
    ):
        with subtests.test(choice):
            _, found = run_ops_json("verify", *choice.split())

            assert sorted(row["call"] for row in found["rows"]) == chosen


def test_no_choice_is_explained(run_ops):
    code, _, err = run_ops("verify")

    assert (code, err) == (2, "Which calls? Select them with --since or --caller, or give one conversation.\n")


def test_a_number_in_the_place_of_an_id_is_told_the_option_for_callers(run_ops):
    code, _, err = run_ops("verify", CALLER)

    sentence = f"{CALLER!r} is not a conversation id. An id has only letters, digits, _ and -."
    assert (code, err) == (2, f"{sentence} For a caller: --caller {CALLER}.\n")


def test_a_missing_permission_is_named(stack, run_ops, whole, aws_calls, subtests):
    whole("conv_1")
    note(stack, "conv_1", "memory#semantic", state="done", memory_ids=["1"])
    deploy_outputs(stack.outputs | {"MemorySecretArn": "arn", "MemoryBackend": "oss"})

    for operation in ("GetItem", "GetObject", "HeadObject", "GetObjectTagging", "GetSecretValue"):
        with subtests.test(operation):
            aws_calls.reset()
            aws_calls.refuse(operation)

            code, out, err = run_ops("verify", "conv_1")

            assert (code, out) == (2, "")
            assert err.splitlines()[-1] == f"AWS refused {operation} (AccessDenied): your credentials may not do this."


def test_an_interrupted_run_ends_in_a_sentence(stack, run_ops, whole, aws_calls):
    whole("conv_1")
    aws_calls.interrupt("HeadObject", 1)

    code, out, err = run_ops("verify", "conv_1")

    assert (code, out, err.splitlines()[-1]) == (130, "", INTERRUPTED)


def test_no_number_is_shown(stack, run_ops, archive):
    archive("conv_1")
    replace(stack, json_key("conv_1"), b"{")

    for words in (["conv_1"], ["--since", "2026-11-21", "--json"], ["--since", "2026-11-21", "--problems"]):
        _, out, err = run_ops("verify", *words)

        assert "conv_1" in out
        assert FOLDER not in out + err


def test_people_get_a_table(stack, run_ops, whole):
    whole("conv_1")

    _, out, _ = run_ops("verify", "conv_1")
    _, none, _ = run_ops("verify", "conv_1", "--problems")

    assert [line.split() for line in out.splitlines()] == [
        ["1", "call,", "0", "with", "a", "problem"],
        ["Call", "JSON", "MP3", "Factual", "Semantic", "Problems"],
        ["conv_1", "archived", "archived", "done,", "1", "in", "Mem0", "done,", "1", "in", "Mem0", "-"],
    ]
    assert none == "1 call, 0 with a problem.\n"


def test_a_call_that_is_left_out_is_no_problem(stack, run_ops_json):
    Records(table(stack)).leave_out("conv_1", "too_short")

    code, found = run_ops_json("verify", "conv_1")

    assert (code, found["title"]) == (0, "1 call, 0 with a problem")
    assert found["rows"][0]["json"] == "left out: too_short"


def test_a_call_whose_json_is_compressed_agrees(stack, run_ops_json, whole, monkeypatch):
    monkeypatch.setenv("GZIP_JSON", "true")
    forget()
    whole("conv_1")
    assert stack.head(json_key("conv_1"))["ContentEncoding"] == "gzip"

    code, found = run_ops_json("verify", "conv_1")

    assert (code, found["rows"][0]["problems"]) == (0, [])


def test_a_json_that_is_not_the_gzip_that_its_encoding_says_is_named(stack, run_ops_json, whole):
    whole("conv_1")
    metadata = stack.head(json_key("conv_1"))["Metadata"]
    stack.s3.put_object(
        Bucket=stack.bucket, Key=json_key("conv_1"), Body=b"no gzip", Metadata=metadata, ContentEncoding="gzip"
    )

    code, found = run_ops_json("verify", "conv_1")

    assert (code, found["rows"][0]["problems"]) == (1, ["the JSON cannot be read"])
