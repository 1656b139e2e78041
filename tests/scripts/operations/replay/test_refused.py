"""What `ops replay` cannot do, and what it shows."""

from tests.scripts.operations.conftest import (
    CALLER,
)


def test_an_impossible_choice_is_explained(run_ops, subtests):
    for choice, said in (
        ("", "Which calls? Select them with --since or --caller, or give one conversation."),
        ("--agent agent_1", "or give one conversation. --agent and --until are not enough."),
        ("--until 1h", "or give one conversation. --agent and --until are not enough."),
        ("--since 1h --until 2h", "--since must be earlier than --until."),
        ("--since now", "'now' is not a time: write 2026-11-22"),
        ("--since 99999999999d", "'99999999999d' is not a time: write"),
        ("--caller Bob", "'Bob' is not a phone number. Write it as +12025550123"),
        ("--conversation a/b", "'a/b' is not a conversation id"),
        ("--key 12025550123/c.json", "'12025550123/c.json' is not the key of a payload"),
        (f"--key staging/2026/11/21/12/{'0' * 64}.json", "There is no payload"),
        ("--key a --since 1h", "--key selects one payload"),
        ("--only memory --since 1h --unarchived", "--only memory sends archived calls"),
        ("--only memory --key a", "--only memory sends archived calls"),
        ("--only audio --since 1h", "'audio' is not"),
        ("--since 1h --per-second 0", "--per-second"),
    ):
        with subtests.test(choice):
            code, out, err = run_ops("replay", *choice.split(), "--yes")

            assert (code, out) == (2, "")
            assert said in " ".join(err.split())


def test_a_missing_permission_is_named(stack, archive, run_ops, aws_calls, subtests):
    archive("conv_1")

    for operation, choice in (
        ("ListObjectsV2", "--since 2026-11-21"),
        ("GetObjectTagging", "--since 2026-11-21 --unarchived"),
        ("Query", "--since 2026-11-21 --agent agent_1"),
        ("BatchGetItem", f"--caller {CALLER}"),
        ("HeadObject", f"--caller {CALLER}"),
        ("GetItem", f"--caller {CALLER}"),
        ("SendMessage", f"--caller {CALLER}"),
        ("PutItem", f"--caller {CALLER}"),
        ("UpdateItem", f"--caller {CALLER} --only memory --force"),
    ):
        with subtests.test(operation):
            aws_calls.reset()
            aws_calls.refuse(operation)

            code, out, err = run_ops("replay", *choice.split(), "--yes")

            assert (code, out) == (2, "")
            assert err.splitlines()[-1] == f"AWS refused {operation} (AccessDenied): your credentials may not do this."


def test_no_number_is_shown_but_the_given_one(stack, run_ops, archive):
    archive("conv_1")
    archive("conv_2", number="+12025550199")

    for words in (["--since", "2026-11-21"], ["--since", "2026-11-21", "--only", "memory", "--yes"]):
        _, out, err = run_ops("replay", *words)

        assert "2025550" not in out + err


def test_people_see_what_to_do_next(stack, run_ops, archive):
    archive("conv_1")

    _, preview, _ = run_ops("replay", "--caller", CALLER)
    _, done, _ = run_ops("replay", "--caller", CALLER, "--yes")

    assert preview.startswith("1 payload would be replayed")
    assert preview.endswith("Next: Run the same command with --yes.\n")
    assert done.endswith("Next:\n      ./scripts/ops status --stack calls\n")
