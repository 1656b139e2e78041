"""What `ops erase` refuses."""

from pathlib import Path

import pytest

from tests.scripts.operations.conftest import (
    CALLER,
    deploy_outputs,
)
from tests.scripts.operations.erasure.conftest import call, kept

pytestmark = [  # the tool ends without closing its connections to Mem0 and ElevenLabs
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


BAD = {
    "nobody": ([], "Give either a caller's number, or one call with --conversation."),
    "two things": ([CALLER, "--conversation", "conv_1"], "Give either a caller's number, or one call"),
    "no number": (["anonymous"], "'anonymous' is not a phone number. Write it as +12025550123."),
    "no id": (["--conversation", "../x"], "'../x' is not a conversation id"),
    "an existing certificate": ([CALLER, "--certificate", "mine.json"], "A certificate is never overwritten."),
    "an existing text": ([CALLER, "--certificate", "other.json"], "A certificate is never overwritten."),
    "no folder": ([CALLER, "--certificate", "no/where.json"], "written to no/where.json: No such file or directory."),
    "a text": ([CALLER, "--certificate", "mine.txt"], "cannot be named mine.txt. Its name must end in .json"),
    "a place": ([CALLER, "--certificate", "."], "Its name must end in .json"),
}


@pytest.mark.parametrize(("words", "sentence"), BAD.values(), ids=BAD)
def test_a_wrong_command_deletes_nothing(keep, stack, run_ops, tmp_path, monkeypatch, words, sentence):
    monkeypatch.chdir(tmp_path)
    Path("mine.json").write_text("mine")
    Path("other.txt").write_text("mine")
    keep(call("conv_1"))
    before = sorted(kept(stack))

    code, out, err = run_ops("erase", *words, "--yes")

    assert (code, out) == (2, "")
    assert sentence in err
    assert "Traceback" not in err
    assert sorted(kept(stack)) == before
    assert {each.name: each.read_text() for each in tmp_path.iterdir()} == {"mine.json": "mine", "other.txt": "mine"}


def test_the_help_explains_what_it_does_and_how_to_continue(run_ops):
    code, out, _ = run_ops("erase", "--help")

    assert code == 0
    for text in ("GDPR", "--yes", "--elevenlabs", "If the command is interrupted, run it again", "Example:"):
        assert text in " ".join(out.split())


def test_a_certificate_shows_control_characters_as_text(stack, run_ops, keep, tmp_path):
    keep(call("conv_1"))
    deploy_outputs(stack.outputs | {"ReplicationBucketArn": "copy\u202e[red]\x9b2J"})
    file = tmp_path / "erasure.json"

    code, out, err = run_ops("erase", CALLER, "--yes", "--certificate", str(file))

    assert code == 0, err
    for text in (out, file.with_suffix(".txt").read_text()):
        assert "  copies in copy\\u202e[red]\\x9b2J\n    S3 does not replicate" in text
        assert text.replace("\n", "").isprintable()
