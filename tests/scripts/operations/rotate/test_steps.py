"""`ops rotate-secret`: which keys are accepted after each step, and when a step is refused."""

import json
from datetime import datetime, timedelta, timezone

import pytest

from scripts.operations.secret import put_key, read_secret
from scripts.operations.view import View
from tests.conftest import SECRET, Stack
from tests.scripts.operations.conftest import AwsCalls
from tests.scripts.operations.rotate.conftest import HOUR, NEW, accepted, deploy, put, sign, versions


def test_the_new_key_is_put_beside_the_old_one(stack, rotate):
    code, out, err = rotate(f"{NEW}\n", "--yes")

    said = json.loads(out)
    ends = datetime.fromisoformat(said["changed_at"]) + timedelta(days=1)
    assert code == 0
    assert datetime.fromisoformat(said["previous_accepted_until"]) == ends
    assert said["next"].startswith(f"Switch ElevenLabs to it now, by {said['previous_accepted_until']} at the latest")
    assert "If ElevenLabs signs with it already, there is nothing to switch." in said["next"]
    assert accepted(NEW, SECRET, "wsec_forged") == [NEW, SECRET]
    assert NEW not in out + err


def test_without_yes_nothing_is_put(stack, rotate):
    code, out, _ = rotate(NEW)

    assert (code, json.loads(out)["next"]) == (0, "Run the same command with --yes.")
    assert accepted(NEW, SECRET) == [SECRET]


def test_an_interrupted_wait_goes_on_and_puts_nothing_again(stack, rotate, aws_calls):
    deploy(stack, cache=1)
    aws_calls.interrupt("PutSecretValue", 1)
    assert rotate(NEW, "--yes")[0] == 130
    aws_calls.reset()

    code, out, _ = rotate(NEW, "--yes")

    assert (code, len(versions(stack))) == (0, 2)
    assert json.loads(out)["next"].startswith("Switch ElevenLabs to it now")
    assert accepted(NEW, SECRET) == [NEW, SECRET]


@pytest.fixture
def warm_ingest(stack: Stack, aws_calls: AwsCalls, monkeypatch: pytest.MonkeyPatch) -> None:
    """An ingest that read the secret just before a step changes it, and keeps it for a second."""
    deploy(stack, cache=1)
    monkeypatch.setenv("SECRET_CACHE_SECONDS", "1")
    aws_calls.after("GetMetricData", lambda: accepted(SECRET))


@pytest.mark.usefixtures("warm_ingest")
def test_a_warm_ingest_knows_the_new_key_when_it_is_said_to_switch(rotate):
    code, _, err = rotate(NEW, "--yes")

    assert (code, err.startswith("Do not switch ElevenLabs yet: for 2 s")) == (0, True)
    assert accepted(NEW, SECRET, warm=True) == [NEW, SECRET]


@pytest.mark.usefixtures("warm_ingest")
def test_a_warm_ingest_has_forgotten_the_old_key_when_the_overlap_is_over(stack, step):
    put(stack, NEW, ago=2 * HOUR)

    assert step("--finish", "--yes", "--force")[0] == 0

    assert accepted(NEW, SECRET, warm=True) == [NEW]


def test_what_is_over_of_the_wait_is_not_waited_for_again(stack, rotate):
    deploy(stack, cache=2)
    put(stack, NEW, ago=HOUR)

    code, out, err = rotate(NEW, "--yes")

    assert (code, json.loads(out)["next"].startswith("Switch ElevenLabs to it now")) == (0, True)
    assert "Do not switch ElevenLabs yet" not in err


def test_of_two_rotations_at_the_same_moment_one_is_refused(stack, rotate, aws_calls):
    put(stack, "wsec_second", ago=5 * HOUR)
    sign("current", datetime.now(timezone.utc) - timedelta(minutes=50))
    view = View("calls", local=False, as_json=True)
    others = read_secret(view.stack)
    aws_calls.after("GetMetricData", lambda: put_key(view, others, "wsec_others"))

    code, out, err = rotate(NEW, "--yes")

    assert (code, out) == (1, "")
    assert err.startswith("Somebody else has just changed the secret.")
    assert err.endswith("./scripts/ops rotate-secret --status --stack calls\n")
    assert accepted("wsec_others", "wsec_second", SECRET, NEW) == ["wsec_others", "wsec_second"]


@pytest.mark.parametrize(
    ("signed_with", "doubt"),
    [
        (["current", "previous"], "the previous key still signs webhooks, the last time at"),
        ([], "no webhook signed with the new key has arrived yet"),
    ],
    ids=["used", "nobody knows"],
)
def test_another_key_waits_until_the_previous_one_is_used_no_more(stack, rotate, signed_with, doubt):
    put(stack, "wsec_second", ago=5 * HOUR)
    for name in signed_with:
        sign(name, datetime.now(timezone.utc) - timedelta(minutes=50))

    code, out, err = rotate(NEW, "--yes")

    assert (code, out) == (2, "")
    assert err.startswith(f"An earlier rotation is not over: {doubt}")
    assert "If ElevenLabs signs with neither key, add --force." in err
    assert accepted(SECRET, NEW) == [SECRET]
    assert rotate(NEW, "--yes", "--force")[0] == 0
    assert accepted(SECRET, "wsec_second", NEW) == ["wsec_second", NEW]


def test_one_may_go_back_to_the_previous_key_at_any_time(stack, rotate):
    put(stack, "wsec_second", ago=2 * HOUR)
    sign("previous", datetime.now(timezone.utc))

    code, _, _ = rotate(SECRET, "--yes")

    assert (code, accepted(SECRET, "wsec_second")) == (0, [SECRET, "wsec_second"])


def test_an_overlap_that_ends_before_the_wait_is_refused(stack, rotate):
    deploy(stack, cache=60, overlap=60)

    code, _, err = rotate(NEW, "--yes")

    assert (code, len(versions(stack))) == (2, 1)
    assert err.startswith("The previous key is accepted for 60 s only, and the wait takes longer")


def test_the_overlap_ends_when_it_is_finished(stack, step):
    put(stack, NEW, ago=2 * HOUR)
    sign("current", datetime.now(timezone.utc))
    assert accepted(NEW, SECRET) == [NEW, SECRET]

    code, preview = step("--finish")
    assert (code, preview["next"], accepted(SECRET)) == (0, "Run the same command with --yes.", [SECRET])
    code, found = step("--finish", "--yes")

    assert (code, found["previous_accepted_until"]) == (0, None)
    assert accepted(NEW, SECRET) == [NEW]
    assert step("--finish", "--yes")[0] == 0


def test_an_overlap_whose_key_was_used_lately_goes_on(stack, run_ops, step):
    put(stack, NEW, ago=2 * HOUR)
    sign("current", datetime.now(timezone.utc))
    last = datetime.now(timezone.utc) - timedelta(minutes=58)
    sign("previous", last)

    code, out, err = run_ops("rotate-secret", "--finish", "--yes")

    assert (code, out) == (2, "")
    assert err.startswith(
        f"The overlap cannot end: the previous key still signs webhooks, the last time at {last:%H:%M}"
    )
    assert accepted(SECRET) == [SECRET]
    assert step("--finish", "--yes", "--force")[0] == 0
    assert accepted(SECRET) == []


def test_an_overlap_that_is_over_by_itself_needs_no_finish(stack, step):
    put(stack, NEW, ago=25 * HOUR)
    sign("previous", datetime.now(timezone.utc) - 2 * HOUR)

    code, found = step("--finish")

    assert (code, found["previous_accepted_until"]) == (0, None)


def test_a_key_may_follow_once_the_overlap_is_over(stack, rotate):
    put(stack, "wsec_second", ago=25 * HOUR)
    sign("previous", datetime.now(timezone.utc) - 2 * HOUR)

    assert rotate(NEW, "--yes")[0] == 0
    assert accepted(SECRET, "wsec_second", NEW) == ["wsec_second", NEW]


def test_two_steps_at_once_are_refused(run_ops):
    code, out, err = run_ops("rotate-secret", "--status", "--finish")

    assert (code, out) == (2, "")
    assert err == "Use only one of --generate, --status and --finish. Each is a separate step.\n"


def test_a_missing_permission_is_named(rotate, aws_calls):
    aws_calls.refuse("PutSecretValue")

    code, out, err = rotate(NEW, "--yes")

    assert (code, out) == (2, "")
    assert err == "AWS refused PutSecretValue (AccessDenied): your credentials may not do this.\n"
