"""The preview and the certificate."""

import json

import pytest

from tests.scripts.operations.conftest import (
    CALLER,
    modes,
)
from tests.scripts.operations.erasure.conftest import WORDS, audio, call, everything, kept, notice

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


def test_an_empty_certificate_of_a_killed_run_is_overwritten(stack, keep, run_ops, tmp_path):
    keep(call("conv_1"))
    for suffix in (".json", ".txt"):
        (tmp_path / f"request{suffix}").touch()

    code, _, _ = run_ops("erase", CALLER, "--yes", "--certificate", f"{tmp_path}/request.json")

    assert (code, stack.object_keys()) == (0, set())
    assert json.loads((tmp_path / "request.json").read_text())["complete"]


@pytest.mark.parametrize("is_there", [False, True], ids=["new", "left by a run that was killed"])
def test_only_its_owner_may_read_a_certificate_with_any_umask(stack, keep, run_ops, tmp_path, open_umask, is_there):
    keep(call("conv_1"))
    file = tmp_path / "request.json"
    if is_there:
        file.touch(mode=0o666)

    run_ops("erase", CALLER, "--yes", "--certificate", str(file))

    assert modes(file) | modes(file.with_suffix(".txt")) == {"request.json": "600", "request.txt": "600"}


def test_a_certificate_is_not_written_through_a_link(stack, keep, failed, tmp_path):
    keep(call("conv_1"))
    (tmp_path / "failed.txt").symlink_to(tmp_path / "elsewhere")

    code, said = failed(CALLER)

    assert code == 2
    assert said.startswith(f"The certificate cannot be written to {tmp_path}/failed.json: ")
    assert not (tmp_path / "elsewhere").exists()
    assert f"{CALLER[1:]}/conv_1.json" in stack.object_keys()


def test_the_certificate_names_the_copies_on_operators_machines(stack, keep, erase):
    keep(call("conv_1"))

    _, certificate = erase(CALLER)

    (copies,) = (each for each in certificate["remains"] if "machines" in each["what"])
    assert copies == {
        "what": "files on operators' machines: exports, dropped messages, and other copies",
        "why": "`ops export` and `ops dlq drop` write them where they run. An erasure cannot delete them",
        "until": "somebody deletes them by hand",
    }
