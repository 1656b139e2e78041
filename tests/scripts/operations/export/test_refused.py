"""What `ops export` refuses, and what it cannot fetch."""

import os
import resource
from pathlib import Path

import pytest

from scripts.operations.exports.folder import open_folder
from tests.scripts.operations.conftest import modes
from tests.scripts.operations.export.conftest import (
    DAY,
    FOLDER,
    exported,
    files,
    manifest,
    put,
    put_call,
    put_recording,
)


def test_a_folder_that_holds_something_else_is_left_alone(stack, run_ops, destination):
    put_call(stack, "conv_1")
    destination.mkdir()
    (destination / "letter.txt").write_text("Dear …")

    code, _, said = run_ops("export", str(destination), *DAY)

    assert (code, said) == (2, f"{destination} has other files in it. Name a new or an empty folder.\n")
    assert [each.name for each in destination.iterdir()] == ["letter.txt"]


def test_an_export_of_another_choice_is_left_alone(stack, run_ops, destination):
    put_call(stack, "conv_1")
    run_ops("export", str(destination), *DAY)
    before = files(destination)

    code, _, said = run_ops("export", str(destination), *DAY, "--no-audio")

    assert (code, files(destination)) == (2, before)
    assert said == f"{destination} is an export of another selection. Use the same options, or name another folder.\n"


def test_two_runs_do_not_write_into_one_folder(stack, run_ops, destination):
    put_call(stack, "conv_1")
    with open_folder(destination):
        code, _, said = run_ops("export", str(destination), *DAY)

    assert (code, said) == (1, f"Another export to {destination} is running.\n")


UNKNOWN = (
    "{} has the ending of an archive file that this command cannot make. Name a folder, a file.zip or a file.tar.gz."
)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("there",), "Which calls? Select them with --since or --caller, or give one conversation."),
        (("there", "--since", "soon"), "'soon' is not a time"),
        (("file", *DAY), "file is a file. Name a folder, or a file that ends in .zip or .tar.gz."),
        (("file/there", *DAY), "file/there could not be written (Not a directory)."),
        (("file.zip", *DAY), "file.zip exists already. "),
        (("calls.rar", *DAY), UNKNOWN.format("calls.rar")),
        (("calls.tgz", *DAY), UNKNOWN.format("calls.tgz")),
        (("calls.tar", *DAY), UNKNOWN.format("calls.tar")),
        (("calls.ZIP", *DAY), UNKNOWN.format("calls.ZIP")),
        (("calls.7z", "--conversation", "conv_1"), UNKNOWN.format("calls.7z")),
        (("--verify", "there"), "there does not exist."),
        (("--verify", "file"), "file has no manifest.json: it is damaged, or not an archive file."),
        (
            ("--verify", "file.zip", *DAY),
            "--verify checks an existing export. Leave out the options that select calls.",
        ),
    ],
    ids=[
        "no choice",
        "no time",
        "file",
        "no folder",
        "archive",
        "rar",
        "tgz",
        "tar",
        "capitals",
        "7z",
        "nothing to verify",
        "no export",
        "verify a choice",
    ],
)
def test_what_cannot_be_done_is_explained_in_a_sentence(stack, run_ops, tmp_path, monkeypatch, words, says):
    monkeypatch.chdir(tmp_path)
    for name in ("file", "file.zip"):
        Path(name).write_text("a letter")

    code, _, said = run_ops("export", *words)

    assert code in (1, 2)
    assert says in said
    assert "Traceback" not in said
    assert sorted(each.name for each in tmp_path.iterdir()) == ["file", "file.zip"]


def test_a_recording_in_an_archive_class_is_named_and_the_rest_is_exported(stack, run_ops_json, destination):
    cold, warm = put_call(stack, "conv_cold"), put_call(stack, "conv_warm")
    frozen = put_recording(stack, "conv_cold", StorageClass="DEEP_ARCHIVE")

    code, shown = run_ops_json("export", str(destination), *DAY)
    verified, checked = run_ops_json("export", "--verify", str(destination))

    assert (code, shown["unavailable_calls"], shown["calls"]) == (1, 1, 2)
    assert f"aws s3api restore-object --bucket {stack.bucket} --key KEY" in shown["next"]
    assert exported(destination) == {cold, warm, "records/conv_cold.json", "records/conv_warm.json"}
    assert manifest(destination)["unavailable"] == [
        {"key": frozen, "conversation_id": "conv_cold", "storage_class": "DEEP_ARCHIVE"}
    ]
    assert (verified, checked["title"]) == (
        0,
        "4 files, 0 with a problem; its manifest lists 1 more that could not be exported",
    )


def test_an_object_in_the_record_that_s3_does_not_have_is_named(stack, run_ops_json, destination):
    put_call(stack, "conv_1")
    key = put_recording(stack, "conv_1")
    stack.s3.delete_object(Bucket=stack.bucket, Key=key)

    code, shown = run_ops_json("export", str(destination), *DAY)

    assert (code, shown["missing"]) == (1, 1)
    assert "./scripts/ops verify ID --stack calls" in shown["next"]
    assert manifest(destination)["missing"] == [{"key": key, "conversation_id": "conv_1"}]


def test_a_full_disk_is_reported_and_with_space_the_export_continues(stack, run_ops, run_ops_json, destination):
    put_call(stack, "conv_1")
    key = put_recording(stack, "conv_1", os.urandom(3_000_000))
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, before[1]))
    try:
        code, _, said = run_ops("export", str(destination), *DAY)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    left = exported(destination), sorted(each.name for each in (destination / ".export").iterdir())

    again, _ = run_ops_json("export", str(destination), *DAY)

    why = f"{destination} could not be written (File too large)."
    assert (code, said.strip()) == (1, f"{why} The files so far stay. Run the same command again: it continues.")
    assert left == ({f"{FOLDER}/conv_1.json"}, ["journal.jsonl", "lock"])
    assert (again, files(destination)[key]) == (0, stack.body(key))


def test_a_missing_permission_is_named_and_the_export_is_no_longer_complete(stack, run_ops, aws_calls, destination):
    key = put_call(stack, "conv_1")
    run_ops("export", str(destination), *DAY)
    put(stack, key, b"changed")
    aws_calls.refuse("GetObject")

    code, _, said = run_ops("export", str(destination), *DAY)

    assert code == 2
    assert said.endswith("AWS refused GetObject (AccessDenied): your credentials may not do this.\n")
    assert not (destination / "manifest.json").exists()


def test_only_its_owner_may_read_an_export_with_any_umask(stack, run_ops_json, tmp_path, open_umask):
    put_call(stack, "conv_1")
    frozen = put_recording(stack, "conv_1", StorageClass="GLACIER")
    empty = tmp_path / "empty"
    empty.mkdir()
    new = tmp_path / "new" / "export"
    archive = tmp_path / "calls.zip"

    for destination in (empty, new, archive):
        run_ops_json("export", str(destination), *DAY)
    archive_modes = modes(tmp_path / "calls.zip") | modes(tmp_path / "calls.zip.parts")
    stack.s3.restore_object(Bucket=stack.bucket, Key=frozen, RestoreRequest={"Days": 1})
    run_ops_json("export", str(archive), *DAY)

    folders = {"export": "700", ".export": "700", FOLDER: "700", "records": "700"}
    inside = {"manifest.json": "600", "conv_1.json": "600", "journal.jsonl": "600", "lock": "600"}
    assert modes(new) == folders | inside
    assert modes(new.parent)["new"] == modes(empty)["empty"] == "700"
    assert set(archive_modes.values()) == {"600", "700"}
    assert archive_modes["calls.zip.parts"] == "700"
    assert modes(archive) == {"calls.zip": "600"}
