"""`ops rotate-secret`: which keys it takes, and how they are given."""

import hashlib
import json

import pytest

from tests.conftest import SECRET
from tests.processes import type_hidden
from tests.scripts.operations.conftest import INTERRUPTED
from tests.scripts.operations.rotate.conftest import NEW, accepted, versions


@pytest.mark.parametrize("words", [[], ["--yes", "--force"]], ids=["preview", "forced"])
def test_what_is_no_new_key_is_refused_in_a_sentence(stack, rotate, subtests, words):
    for name, key, said in [
        ("nothing", "", "No key was given."),
        ("an empty line", "\n", "No key was given."),
        ("space before", f" {NEW}", "There is a space before or after the key. Remove it."),
        ("end of line", f"{NEW}\r\n", "There is a space before or after the key. Remove it."),
        ("two lines", f"{NEW}\nwsec_2", "The key must be one line of printable ASCII"),
        ("other letters", "wsec_2ключ", "The key must be one line of printable ASCII"),
        ("bytes", b"wsec_2\xff\x00", "The key must be one line of printable ASCII"),
        ("long", "wsec_2" + "a" * 5000, "The key must be one line of printable ASCII"),
        ("current", SECRET, "This is the current key already. There is nothing to change."),
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
        ("my-own-sender's key", "The key does not begin with wsec_, as the keys of ElevenLabs do."),
        ("abcde", "The key does not begin with wsec_, as the keys of ElevenLabs do."),
        ("wsec_abcdefghij", "The key has only 15 characters. Perhaps you did not copy all of it."),
    ],
)
def test_a_key_that_does_not_look_like_one_is_put_only_with_force(stack, rotate, key, said):
    for words in ((), ("--yes",)):
        code, _, err = rotate(key, *words)
        assert (code, err, len(versions(stack))) == (2, f"{said} To use it nevertheless, add --force.\n", 1)

    assert rotate(key, "--yes", "--force")[0] == 0
    assert accepted(key) == [key]


def test_a_random_key_is_shown_when_it_may_be_used(stack, step):
    code, said = step("--generate", "--yes")

    assert code == 0
    assert said["key"].startswith("wsec_")
    assert accepted(said["key"], SECRET) == [said["key"], SECRET]


def test_a_random_key_that_nobody_used_yet_is_not_replaced_by_another(stack, step, aws_calls, run_ops):
    aws_calls.interrupt("PutSecretValue", 1)
    code, out, _ = run_ops("--json", "rotate-secret", "--generate", "--yes")
    assert (code, json.loads(out)["error"]) == (130, INTERRUPTED)
    aws_calls.reset()

    (_, first), (_, again) = step("--generate", "--yes"), step("--generate", "--yes")

    assert first["key"] == again["key"]
    assert len(versions(stack)) == 2
    assert accepted(first["key"], SECRET) == [first["key"], SECRET]


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
