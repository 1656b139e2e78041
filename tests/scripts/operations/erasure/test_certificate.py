"""The preview and the certificate."""

import json
import os

import pytest

from tests.scripts.operations.conftest import (
    CALLER,
    modes,
)
from tests.scripts.operations.erasure.conftest import WORDS, at, audio, call, everything, kept, notice

pytestmark = [  # the tool ends without closing its connections to Mem0 and ElevenLabs
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


def test_a_preview_changes_nothing(stack, keep, sweep, run_ops_json, run_ops, aws_calls):
    everything(stack, keep, sweep, "conv_")
    before = sorted(kept(stack))
    aws_calls.seen.clear()

    code, found = run_ops_json("erase", CALLER)
    _, out, _ = run_ops("erase", CALLER)
    asked = set(aws_calls.seen)

    assert (code, found["calls"], found["at_elevenlabs"]) == (0, 7, "their copy stays, without --elevenlabs")
    assert found["next"].startswith("Run the same command with --yes.")
    assert "object versions" in out
    assert sorted(kept(stack)) == before
    assert not [name for name in asked if name.startswith(("Put", "Delete", "Update", "Send", "Receive"))]


def test_the_certificate_holds_neither_number_nor_words(stack, keep, run_ops, tmp_path):
    keep(call("conv_1"), audio("conv_1"), notice())
    file = tmp_path / "erasure.json"

    code, out, err = run_ops("erase", CALLER, "--yes", "--certificate", str(file))

    certificate, text = file.read_text(), file.with_suffix(".txt").read_text()
    assert (code, out.strip(), str(file) in err) == (0, text.strip(), True)
    assert "Certificate of erasure: +120…123, stack calls" in text
    assert ": complete" in text
    assert json.loads(certificate)["caller"] == "+120…123"
    for written in (certificate, text, out, err):
        assert CALLER[1:] not in written
        assert WORDS[CALLER] not in written


def test_without_a_name_a_certificate_is_named_by_the_time(stack, keep, run_ops, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    keep(call("conv_1"))

    code, _, _ = run_ops("erase", CALLER, "--yes")

    assert code == 0
    assert sorted(each.suffix for each in tmp_path.glob("erasure-20*Z.*")) == [".json", ".txt"]


def test_a_run_that_is_killed_leaves_no_certificate(stack, keep, run_ops, aws_calls, tmp_path):
    keep(call("conv_1"))
    left: list[str] = []
    at(aws_calls, "DeleteObject", 1, lambda: left.extend(each.name for each in tmp_path.iterdir()))

    code, _, _ = run_ops("erase", CALLER, "--yes", "--certificate", f"{tmp_path}/request.json")

    assert (code, left) == (0, [])
    assert sorted(each.name for each in tmp_path.iterdir()) == ["request.json", "request.txt"]


def test_a_certificate_appears_only_when_it_is_complete(stack, keep, run_ops, tmp_path, monkeypatch):
    keep(call("conv_1"))
    seen: list[set[str]] = []
    fsync = os.fsync

    def note_files(number: int) -> None:
        seen.append({each.name for each in tmp_path.iterdir()})
        fsync(number)

    monkeypatch.setattr(os, "fsync", note_files)

    run_ops("erase", CALLER, "--yes", "--certificate", f"{tmp_path}/request.json")

    assert seen == [{"request.json.draft", "request.txt.draft"}] * 2


@pytest.mark.parametrize("is_there", [False, True], ids=["new", "with a draft of a run that was killed"])
def test_only_its_owner_may_read_a_certificate_with_any_umask(stack, keep, run_ops, tmp_path, open_umask, is_there):
    keep(call("conv_1"))
    file = tmp_path / "request.json"
    if is_there:
        (tmp_path / "request.json.draft").touch(mode=0o666)

    run_ops("erase", CALLER, "--yes", "--certificate", str(file))

    assert {each.name: modes(each)[each.name] for each in tmp_path.iterdir()} == {
        "request.json": "600",
        "request.txt": "600",
    }


@pytest.mark.parametrize("name", ["request.txt", "request.txt.draft"])
def test_a_certificate_is_not_written_through_a_link(stack, keep, run_ops, tmp_path, name):
    keep(call("conv_1"))
    (tmp_path / name).symlink_to(tmp_path / "elsewhere")

    code, _, err = run_ops("erase", CALLER, "--yes", "--certificate", f"{tmp_path}/request.json")

    assert (code, f"{tmp_path}/request.json" in err) == (2, True)
    assert not (tmp_path / "elsewhere").exists()
    assert f"{CALLER[1:]}/conv_1.json" in stack.object_keys()


def test_a_certificate_that_another_run_has_written_meanwhile_is_not_overwritten(
    stack, keep, run_ops, aws_calls, tmp_path
):
    keep(call("conv_1"))
    file = tmp_path / "request.json"
    at(aws_calls, "DeleteObject", 1, lambda: file.write_text("another's"))

    code, out, err = run_ops("erase", CALLER, "--yes", "--certificate", str(file))

    assert (code, file.read_text(), "Certificate of erasure" in out) == (2, "another's", True)
    assert "A certificate is never overwritten." in err


def test_the_certificate_names_the_copies_on_operators_machines(stack, keep, erase):
    keep(call("conv_1"))

    _, certificate = erase(CALLER)

    (copies,) = (each for each in certificate["remains"] if "machines" in each["what"])
    assert copies == {
        "what": "files on operators' machines: exports, dropped messages, and other copies",
        "why": "`ops export` and `ops dlq drop` write them where they run. An erasure cannot delete them",
        "until": "somebody deletes them by hand",
    }
