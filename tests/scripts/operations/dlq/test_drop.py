"""`ops dlq drop`: messages are saved before they are deleted."""

import json

import pytest

from tests.scripts.operations.conftest import INTERRUPTED, modes
from tests.scripts.operations.dlq.conftest import (
    POISON,
    announcement,
    bodies,
    bury,
    envelope,
)


def test_a_drop_is_previewed(stack, ask, tmp_path):
    bury(stack, "a", **POISON)

    code, found = ask("dlq", "drop", "archive", "--save", str(tmp_path / "dropped"))

    assert (code, found["title"], found["next"]) == (
        0, "1 of 1 messages would be dropped", "the same command with --yes",
    )  # fmt: skip
    assert not (tmp_path / "dropped").exists()
    assert bodies(stack, "ArchiveDlqUrl") == ["a"]


def test_what_is_dropped_is_kept_in_a_file_for_its_owner_alone(stack, ask, tmp_path):
    file = tmp_path / "dropped"
    bury(stack, "first", **POISON)
    bury(stack, "second", **POISON)
    bury(stack, "other", step="webhook", error="other")

    code, found = ask("dlq", "drop", "archive", "--error", "not json", "--save", str(file), "--yes")

    saved = [json.loads(line) for line in file.read_text().splitlines()]
    assert (code, found["title"]) == (0, "2 of 3 messages dropped")
    assert "next" not in found
    assert [(each["Queue"], each["Body"]) for each in saved] == [("archive", "first"), ("archive", "second")]
    assert saved[0]["MessageAttributes"]["error"]["StringValue"] == POISON["error"]
    assert file.stat().st_mode & 0o777 == 0o600
    assert bodies(stack, "ArchiveDlqUrl") == ["other"]


def test_only_its_owner_may_read_what_was_dropped_whatever_the_umask(stack, ask, tmp_path, monkeypatch, careless):
    monkeypatch.chdir(tmp_path)
    bury(stack, "a", **POISON)

    ask("dlq", "drop", "archive", "--yes")

    assert [modes(each) for each in tmp_path.glob("*")] == [
        {each.name: "600"} for each in tmp_path.glob("dropped-archive-*")
    ]


def test_a_saved_body_is_what_the_source_queue_takes(stack, ask, tmp_path):
    bury(stack, envelope(announcement("conv_1")), "memory", ErrorCode="403")

    ask("dlq", "drop", "memory", "--save", str(tmp_path / "dropped"), "--yes")

    assert json.loads((tmp_path / "dropped").read_text())["Body"] == announcement("conv_1")


def test_a_file_of_its_own_name_is_in_the_folder_at_hand(stack, say, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    bury(stack, "a", **POISON)

    _, _, err = say("dlq", "drop", "archive", "--yes")

    (file,) = tmp_path.iterdir()
    assert file.name.startswith("dropped-archive-2")
    assert f"Saved 1 messages to {file.name}\n" in err


@pytest.mark.parametrize(("path", "why"), [("taken", "File exists"), ("nowhere/dropped", "No such file or directory")])
def test_nothing_is_dropped_that_cannot_be_saved(stack, say, tmp_path, path, why):
    (tmp_path / "taken").write_text("kept")
    bury(stack, "a", **POISON)

    code, _, err = say("dlq", "drop", "archive", "--save", str(tmp_path / path), "--yes")

    assert (code, err.splitlines()[-1]) == (2, f"Nothing was dropped: {tmp_path / path} could not be written ({why}).")
    assert (tmp_path / "taken").read_text() == "kept"
    assert bodies(stack, "ArchiveDlqUrl") == ["a"]


def test_an_interrupted_drop_has_saved_all_and_leaves_the_rest(stack, say, wire, tmp_path):
    sent = {str(number) for number in range(12)}
    for body in sent:
        bury(stack, body, **POISON)
    wire.interrupt("DeleteMessage", 5)

    code, _, err = say("dlq", "drop", "archive", "--save", str(tmp_path / "dropped"), "--yes")

    wire.calm()
    saved = {json.loads(line)["Body"] for line in (tmp_path / "dropped").read_text().splitlines()}
    left = bodies(stack, "ArchiveDlqUrl")
    assert (code, err.splitlines()[-1]) == (130, INTERRUPTED)
    assert (saved, len(left), set(left) <= sent) == (sent, 7, True)
