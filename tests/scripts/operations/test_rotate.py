"""`ops rotate-secret`: which keys are accepted after each step, and when a step is refused."""

import hashlib
import io
import json
import sys
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import boto3
import pytest
from moto.core.models import DEFAULT_ACCOUNT_ID
from moto.secretsmanager.models import secretsmanager_backends

from ingest.handler import receive
from scripts.operations.secret import put_key, read_secret
from scripts.operations.stack import find_stack
from shared.errors import SignatureError
from tests.conftest import SECRET, Stack, forget
from tests.ingest.test_handler import signed
from tests.processes import type_hidden
from tests.scripts.operations.conftest import INTERRUPTED, Wire, deploy_outputs, write_log

HOUR = timedelta(hours=1)
NEW = "wsec_new_0123456789"
ROOT = Path(__file__).parents[3]
Ask = Callable[..., tuple[int, Any]]
Say = Callable[..., tuple[int, str, str]]


@pytest.fixture(autouse=True)
def rotatable(stack: Stack) -> None:
    """The stack `calls`, whose ingest keeps nothing."""
    deploy(stack)


def deploy(stack: Stack, cache: int = 0, overlap: int = 86400) -> None:
    times = {"SecretCacheSeconds": str(cache), "SecretOverlapSeconds": str(overlap)}
    deploy_outputs(stack.outputs | times)


@pytest.fixture
def give(monkeypatch: pytest.MonkeyPatch) -> Callable[[str | bytes], None]:
    """Put a key into stdin."""

    def run(key: str | bytes) -> None:
        content = key if isinstance(key, bytes) else key.encode()
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content)))

    return run


@pytest.fixture
def rotate(say: Say, give: Callable[[str | bytes], None]) -> Say:
    """Exit code, document, and progress of a step that is given a key; an error stands with the progress."""

    def run(key: str | bytes, *words: str) -> tuple[int, str, str]:
        give(key)
        code, out, err = say("--json", "rotate-secret", *words)
        error = json.loads(out).get("error")
        return (code, "", f"{err}{error}\n") if error else (code, out, err)

    return run


@pytest.fixture
def step(ask: Ask) -> Ask:
    """Exit code and document of a step that needs no key."""
    return lambda *words: ask("rotate-secret", *words)


def versions(stack: Stack) -> dict[str, Any]:
    secrets = secretsmanager_backends[DEFAULT_ACCOUNT_ID]["us-east-1"].secrets
    return secrets[stack.outputs["WebhookSecretArn"]].versions


def accepted(*keys: str, warm: bool = False) -> list[str]:
    """Those of the keys that ingest takes, a cold one unless told otherwise."""
    if not warm:
        forget()
    taken = []
    for key in keys:
        try:
            receive(signed(secret=key), datetime.now(timezone.utc))
            taken.append(key)
        except SignatureError:
            pass
    return taken


def put(stack: Stack, key: str, ago: timedelta = timedelta(0)) -> datetime:
    """Have the key put, so long ago; returns when."""
    client = boto3.client("secretsmanager")
    version = client.put_secret_value(SecretId=stack.outputs["WebhookSecretArn"], SecretString=key)["VersionId"]
    at = datetime.now(timezone.utc) - ago
    versions(stack)[version]["createdate"] = at.timestamp()
    return at


def sign(name: str, at: datetime, number: int = 1) -> None:
    """Let ingest have counted webhooks that the key of that name signed."""
    metrics = ["WebhookStaged"] + (["SignedWithPrevious"] if name == "previous" else [])
    data = [
        {"MetricName": metric, "Value": number, "Timestamp": at, "Dimensions": [{"Name": "service", "Value": "ingest"}]}
        for metric in metrics
    ]
    boto3.client("cloudwatch").put_metric_data(Namespace="AgenticMemory/calls", MetricData=data)


def test_the_new_key_is_put_beside_the_old_one(stack, rotate):
    code, out, err = rotate(f"{NEW}\n", "--yes")

    said = json.loads(out)
    ends = datetime.fromisoformat(said["changed_at"]) + timedelta(days=1)
    assert code == 0
    assert datetime.fromisoformat(said["previous_accepted_until"]) == ends
    assert said["next"].startswith(f"switch ElevenLabs to it now, by {said['previous_accepted_until']} at the latest")
    assert accepted(NEW, SECRET, "wsec_forged") == [NEW, SECRET]
    assert NEW not in out + err


def test_without_yes_nothing_is_put(stack, rotate):
    code, out, _ = rotate(NEW)

    assert (code, json.loads(out)["next"]) == (0, "the same command with --yes")
    assert accepted(NEW, SECRET) == [SECRET]


@pytest.mark.parametrize("words", [[], ["--yes", "--force"]], ids=["preview", "forced"])
def test_what_is_no_new_key_is_refused_in_a_sentence(stack, rotate, subtests, words):
    for name, key, said in [
        ("nothing", "", "There is no key: nothing was given."),
        ("an empty line", "\n", "There is no key: nothing was given."),
        ("space before", f" {NEW}", "There is a space before or after the key. Give it without."),
        ("end of line", f"{NEW}\r\n", "There is a space before or after the key. Give it without."),
        ("two lines", f"{NEW}\nwsec_2", "The key is not one line of printable ASCII"),
        ("other letters", "wsec_2ключ", "The key is not one line of printable ASCII"),
        ("bytes", b"wsec_2\xff\x00", "The key is not one line of printable ASCII"),
        ("long", "wsec_2" + "a" * 5000, "The key is not one line of printable ASCII"),
        ("current", SECRET, "This is the current key already: there is nothing to rotate."),
    ]:
        with subtests.test(name):
            code, out, err = rotate(key, *words)

            assert (code, out) == (2, "")
            assert err.splitlines()[-1].startswith(said)
            assert "wsec_2" not in err
            assert len(versions(stack)) == 1


@pytest.mark.parametrize(
    ("key", "said"),
    [
        ("my-own-sender's key", "The key does not begin with wsec_, as those of ElevenLabs do."),
        ("abcde", "The key does not begin with wsec_, as those of ElevenLabs do."),
        ("wsec_abcdefghij", "The key has only 15 characters: perhaps not all of it was copied."),
    ],
)
def test_a_key_that_does_not_look_like_one_is_put_only_with_force(stack, rotate, key, said):
    for words in ((), ("--yes",)):
        code, _, err = rotate(key, *words)
        assert (code, err, len(versions(stack))) == (2, f"{said} With --force it is used all the same.\n", 1)

    assert rotate(key, "--yes", "--force")[0] == 0
    assert accepted(key) == [key]


def test_a_random_key_is_shown_when_it_may_be_used(stack, step):
    code, said = step("--generate", "--yes")

    assert code == 0
    assert said["key"].startswith("wsec_")
    assert accepted(said["key"], SECRET) == [said["key"], SECRET]


def test_a_random_key_that_nobody_used_yet_is_not_replaced_by_another(stack, step, wire, say):
    wire.interrupt("PutSecretValue", 1)
    code, out, _ = say("--json", "rotate-secret", "--generate", "--yes")
    assert (code, json.loads(out)["error"]) == (130, INTERRUPTED)
    wire.calm()

    (_, first), (_, again) = step("--generate", "--yes"), step("--generate", "--yes")

    assert first["key"] == again["key"]
    assert len(versions(stack)) == 2
    assert accepted(first["key"], SECRET) == [first["key"], SECRET]


def test_an_interrupted_wait_goes_on_and_puts_nothing_again(stack, rotate, wire):
    deploy(stack, cache=1)
    wire.interrupt("PutSecretValue", 1)
    assert rotate(NEW, "--yes")[0] == 130
    wire.calm()

    code, out, _ = rotate(NEW, "--yes")

    assert (code, len(versions(stack))) == (0, 2)
    assert json.loads(out)["next"].startswith("switch ElevenLabs to it now")
    assert accepted(NEW, SECRET) == [NEW, SECRET]


@pytest.fixture
def warm_ingest(stack: Stack, wire: Wire, monkeypatch: pytest.MonkeyPatch) -> None:
    """An ingest that read the secret just before a step changes it, and keeps it for a second."""
    deploy(stack, cache=1)
    monkeypatch.setenv("SECRET_CACHE_SECONDS", "1")
    wire.after("GetMetricData", lambda: accepted(SECRET))


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

    assert (code, json.loads(out)["next"].startswith("switch ElevenLabs to it now")) == (0, True)
    assert "Do not switch ElevenLabs yet" not in err


def test_of_two_rotations_at_the_same_moment_one_is_refused(stack, rotate, wire):
    put(stack, "wsec_second", ago=5 * HOUR)
    sign("current", datetime.now(timezone.utc) - timedelta(minutes=50))
    others = read_secret(find_stack("calls", local=False))
    wire.after("GetMetricData", lambda: put_key(find_stack("calls", local=False), others, "wsec_others"))

    code, out, err = rotate(NEW, "--yes")

    assert (code, out) == (1, "")
    assert err.startswith("Somebody else changed the secret a moment ago, and nothing was done.")
    assert accepted("wsec_others", "wsec_second", SECRET, NEW) == ["wsec_others", "wsec_second"]


@pytest.mark.parametrize(
    ("signed_with", "doubt"),
    [
        (["current", "previous"], "the previous key still signs webhooks, the last time at"),
        ([], "no webhook that the new key signed has come yet"),
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


def test_the_status_of_a_secret_that_was_never_rotated(step):
    code, found = step("--status")

    assert (code, found["previous_accepted_until"], "next" in found) == (0, None, False)


def test_the_status_tells_whether_the_previous_key_is_still_used(stack, step):
    changed_at = put(stack, NEW, ago=5 * HOUR)
    last = datetime.now(timezone.utc) - timedelta(minutes=30)
    sign("previous", changed_at - HOUR)
    sign("previous", changed_at + HOUR, 4)
    sign("previous", last, 2)
    sign("current", last, 3)

    code, found = step("--status")

    assert code == 1
    assert found["signed_with_previous_in_the_last_hour"] == 2
    assert found["signed_with_previous_since_the_change"] == 6
    assert found["signed_with_current"] == 3
    assert found["last_signed_with_previous"] == f"{last:%Y-%m-%dT%H:%M:00Z}"
    assert found["next"].startswith(f"switch ElevenLabs by {found['previous_accepted_until']}: the previous key still")


def test_the_status_shows_test_webhooks_apart_because_they_say_nothing_about_elevenlabs(stack, step, say):
    put(stack, NEW, ago=5 * HOUR)
    test = {"MetricName": "TestWebhookStaged", "Value": 3, "Timestamp": datetime.now(timezone.utc) - HOUR,
            "Dimensions": [{"Name": "service", "Value": "ingest"}]}  # fmt: skip
    boto3.client("cloudwatch").put_metric_data(Namespace="AgenticMemory/calls", MetricData=[test])

    code, found = step("--status")
    _, out, _ = say("rotate-secret", "--status")

    assert (code, found["signed_with_current"], found["test_webhooks_not_counted"]) == (1, 0, 3)
    assert "test webhooks not counted" in out


def test_a_previous_key_that_nobody_uses_any_more_can_be_given_up(stack, step, say):
    put(stack, NEW, ago=5 * HOUR)
    sign("previous", datetime.now(timezone.utc) - 2 * HOUR)
    sign("current", datetime.now(timezone.utc) - HOUR)

    code, found = step("--status")
    _, out, _ = say("rotate-secret", "--status")

    assert (code, found["next"].split(",")[0]) == (0, "ops rotate-secret --finish")
    assert "Next: ops rotate-secret --finish" in out


def test_in_the_wait_nobody_is_told_to_switch_at_once(stack, step):
    deploy(stack, cache=3000)
    put(stack, NEW, ago=timedelta(minutes=1))
    sign("current", datetime.now(timezone.utc), 9)  # by ingests that knew only the previous key

    code, found = step("--status")

    assert (code, found["signed_with_current"], found["next"].split()[0]) == (1, 0, "wait")


def test_where_there_are_no_metrics_the_log_tells(stack, step):
    put(stack, NEW, ago=2 * HOUR)
    now = datetime.now(timezone.utc)
    staged = {"level": "INFO", "message": "Webhook staged"}
    write_log("ingest", staged | {"secret": "previous"}, at=now - 3 * HOUR)
    write_log("ingest", *[staged | {"secret": "previous"}] * 2, staged | {"secret": "current"}, at=now - HOUR / 2)
    write_log("ingest", {"level": "INFO", "message": "Webhook refused: signature"}, "START RequestId: 1", at=now)
    write_log("ingest", {"level": "INFO", "message": "Test webhook staged"}, at=now)

    code, found = step("--status")

    assert code == 1
    assert found["signed_with_previous_since_the_change"] == 2
    assert found["signed_with_current"] == 1
    assert found["test_webhooks_not_counted"] == 1


def test_the_overlap_ends_when_it_is_finished(stack, step):
    put(stack, NEW, ago=2 * HOUR)
    sign("current", datetime.now(timezone.utc))
    assert accepted(NEW, SECRET) == [NEW, SECRET]

    code, preview = step("--finish")
    assert (code, preview["next"], accepted(SECRET)) == (0, "the same command with --yes", [SECRET])
    code, found = step("--finish", "--yes")

    assert (code, found["previous_accepted_until"]) == (0, None)
    assert accepted(NEW, SECRET) == [NEW]
    assert step("--finish", "--yes")[0] == 0


def test_an_overlap_whose_key_was_used_lately_goes_on(stack, say, step):
    put(stack, NEW, ago=2 * HOUR)
    sign("current", datetime.now(timezone.utc))
    last = datetime.now(timezone.utc) - timedelta(minutes=58)
    sign("previous", last)

    code, out, err = say("rotate-secret", "--finish", "--yes")

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


def test_two_steps_at_once_are_refused(say):
    code, out, err = say("rotate-secret", "--status", "--finish")

    assert (code, out) == (2, "")
    assert err == "Choose one of --generate, --status and --finish: each is a step of its own.\n"


def test_a_stack_of_an_older_version_is_named(stack, say):
    deploy_outputs(stack.outputs)

    code, out, err = say("rotate-secret", "--status")

    assert (code, out) == (2, "")
    assert err.startswith("The stack does not say how long it keeps the secret")


def test_a_missing_permission_is_named(rotate, wire):
    wire.refuse("PutSecretValue")

    code, out, err = rotate(NEW, "--yes")

    assert (code, out) == (2, "")
    assert err == "AWS refused PutSecretValue (AccessDenied): your credentials may not do this.\n"


ASK = (
    "import hashlib; from scripts.operations.rotate import ask\n"
    "try: print(hashlib.sha256(ask().encode()).hexdigest())\n"
    "except KeyboardInterrupt: print('interrupted')"
)


def test_a_key_that_is_typed_is_not_shown():
    shown, came = type_hidden(ASK, f"{NEW}\n".encode())

    assert shown.startswith(b"The new signing secret: ")
    assert NEW.encode() not in shown
    assert came == hashlib.sha256(NEW.encode()).hexdigest()


@pytest.mark.parametrize("key", [b"\x03", b"\x04"], ids=["Ctrl-C", "Ctrl-D"])
def test_the_question_for_a_key_can_be_left(key):
    assert type_hidden(ASK, key)[1] == "interrupted"
