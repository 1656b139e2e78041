"""Names that lead out of the export's folder."""

import json
import shutil
from pathlib import Path

import pytest

from scripts.operations.exports.folder import NameRefusedError, open_folder
from tests.scripts.operations.conftest import note
from tests.scripts.operations.export.conftest import DAY, FOLDER, exported, files, manifest, put, put_call


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    """A folder beside the export, with a file that must not change."""
    folder = tmp_path / "outside"
    folder.mkdir()
    (folder / "conv_1.json").write_text("mine")
    return folder


@pytest.mark.parametrize("conversation_id", ["../../outside/conv_1", "../records/x", "/tmp/x", "a/b", "\x1b[2J", "x\n"])
def test_a_record_whose_id_leads_elsewhere_is_reported_and_the_rest_is_exported(
    stack, run_ops, run_ops_json, destination, outside, conversation_id
):
    key = put_call(stack, "conv_1")
    note(stack, conversation_id, folder="../outside", json_key=["no", "key"], audio="none",
         archived_at="2026-11-21T12:00:00Z")  # fmt: skip

    code, out, _ = run_ops("export", str(destination), *DAY)
    found = manifest(destination)

    assert (code, exported(destination)) == (1, {key, "records/conv_1.json"})
    assert found["unavailable"] == [
        {
            "key": f"records/{conversation_id}.json", "conversation_id": conversation_id,
            "reason": "the id would lead out of the export",
        }
    ]  # fmt: skip
    assert found["totals"]["unavailable_calls"] == 1
    assert 'manifest.json lists them under "unavailable"' in " ".join(out.split())
    assert {each.name: each.read_text() for each in outside.iterdir()} == {"conv_1.json": "mine"}
    assert sorted(each.name for each in destination.parent.iterdir()) == ["outside", "there"]


@pytest.mark.parametrize(
    "name", ["../outside/conv_1.json", "records/../../x.json", "manifest.json", "/nowhere/x.json", ""]
)
def test_a_folder_refuses_a_file_name_that_no_export_has(destination, outside, name):
    with open_folder(destination) as folder, pytest.raises(NameRefusedError):
        folder.write(name, [b"{}"])

    assert [each.name for each in destination.rglob("*.json")] == []
    assert (outside / "conv_1.json").read_text() == "mine"


@pytest.mark.parametrize("name", ["records", FOLDER, ".export", ".export/lock", ".export/journal.jsonl"])
def test_a_link_in_the_folder_is_not_followed(stack, run_ops, destination, outside, name):
    key = put_call(stack, "conv_1")
    run_ops("export", str(destination), *DAY)
    victim = outside / "conv_1.json" if name.startswith(".export/") else outside
    if (destination / name).is_dir():
        shutil.copytree(destination / name, outside, dirs_exist_ok=True)
        shutil.rmtree(destination / name)
    else:
        (destination / name).unlink()
    (destination / name).symlink_to(victim)
    put(stack, key, b"changed")
    before = files(outside)

    code, _, said = run_ops("export", str(destination), *DAY)

    assert (code, said) == (
        2, f"{destination / name} is a link, and an export has no links. Name a new or an empty folder.\n",
    )  # fmt: skip
    assert files(outside) == before


def test_a_link_in_place_of_a_file_is_replaced_and_not_followed(stack, run_ops_json, destination, outside):
    key = put_call(stack, "mine_")
    run_ops_json("export", str(destination), *DAY)
    (outside / "conv_1.json").write_text("1" * len(files(destination)[key]))
    (destination / key).unlink()
    (destination / key).symlink_to(outside / "conv_1.json")

    unchecked = run_ops_json("export", "--verify", str(destination))
    code, shown = run_ops_json("export", str(destination), *DAY)

    assert (unchecked[0], unchecked[1]["rows"]) == (1, [{"file": key, "problem": "it is a link"}])
    assert (code, shown["fetched"], (destination / key).is_symlink()) == (0, 1, False)
    assert files(destination)[key] == b"mine_"
    assert (outside / "conv_1.json").read_text() == "11111"


def test_foreign_lines_in_the_journal_are_ignored(stack, run_ops_json, destination, outside):
    put_call(stack, "conv_1")
    run_ops_json("export", str(destination), *DAY)
    journal = destination / ".export" / "journal.jsonl"
    lines = [
        {"key": "../outside/conv_1.json", "conversation_id": "conv_1", "size": 4, "sha256": "0"},
        {"key": 5, "conversation_id": "conv_1", "size": 4, "sha256": "0"},
        {"name": "conv_1"}, [], 5,
    ]  # fmt: skip
    journal.write_text(journal.read_text() + "".join(f"{json.dumps(line)}\n" for line in lines))

    code, shown = run_ops_json("export", str(destination), *DAY)

    assert (code, shown["fetched"]) == (0, 0)
    assert "outside" not in journal.read_text() + (destination / "manifest.json").read_text()
    assert (outside / "conv_1.json").read_text() == "mine"


@pytest.mark.parametrize(
    "header", ["5", "[]", '{"asked": {}}', '{"version":1,"stack":"","asked":{},"since":5,"until":""}']
)
def test_a_journal_that_no_export_wrote_makes_no_export_of_a_folder(stack, run_ops, destination, header):
    put_call(stack, "conv_1")
    (destination / ".export").mkdir(parents=True)
    (destination / ".export" / "journal.jsonl").write_text(header)
    (destination / "letter.txt").write_text("Dear …")

    code, _, said = run_ops("export", str(destination), *DAY)

    assert (code, said) == (2, f"{destination} has other files in it. Name a new or an empty folder.\n")
