"""Archive files, and the check of an export."""

import os
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.scripts.operations.export.conftest import DAY, files, put_call, put_recording


def unpacked(archive: Path) -> dict[str, bytes]:
    if archive.suffix == ".zip":
        with zipfile.ZipFile(archive) as zipped:
            return {name: zipped.read(name) for name in zipped.namelist()}
    with tarfile.open(archive) as tarred:
        return {name: tarred.extractfile(name).read() for name in tarred.getnames()}


@pytest.mark.parametrize("name", ["calls.zip", "calls.tar.gz"])
def test_an_archive_file_holds_the_same_files_and_its_parts_are_removed(
    stack, run_ops_json, destination, tmp_path, name
):
    put_call(stack, "conv_1")
    put_recording(stack, "conv_1")
    archive = tmp_path / name

    code, _ = run_ops_json("export", str(archive), *DAY)
    run_ops_json("export", str(destination), *DAY)

    assert code == 0
    assert sorted(each.name for each in tmp_path.iterdir()) == [name, "there"]
    assert {key: body for key, body in unpacked(archive).items() if key != "manifest.json"} == {
        key: body for key, body in files(destination).items() if key != "manifest.json"
    }
    assert archive.stat().st_mode & 0o777 == 0o600
    assert run_ops_json("export", "--verify", str(archive))[0] == 0


@pytest.mark.parametrize("name", ["calls.zip", "calls.tar.gz"])
def test_an_archive_file_that_is_damaged_or_cut_off_does_not_pass(stack, run_ops_json, run_ops, tmp_path, name):
    put_call(stack, "conv_1")
    put_recording(stack, "conv_1", os.urandom(50_000))
    archive = tmp_path / name
    run_ops_json("export", str(archive), *DAY)
    whole = bytearray(archive.read_bytes())
    verdicts = []

    for damaged in (whole[: len(whole) // 2], whole[:30_000] + b"1234" + whole[30_004:]):
        archive.write_bytes(damaged)
        code, out, said = run_ops("export", "--verify", str(archive))
        verdicts.append(code)
        assert "damaged" in out + said or "changed" in out

    assert verdicts == [1, 1]


def test_an_archive_file_is_made_again_as_long_as_its_parts_are_there(stack, run_ops_json, tmp_path):
    put_call(stack, "conv_1")
    frozen = put_recording(stack, "conv_1", StorageClass="GLACIER")
    archive = tmp_path / "calls.zip"
    code, _ = run_ops_json("export", str(archive), *DAY)
    stack.s3.restore_object(Bucket=stack.bucket, Key=frozen, RestoreRequest={"Days": 1})

    again, shown = run_ops_json("export", str(archive), *DAY)

    assert (code, again, shown["fetched"]) == (1, 0, 1)
    assert unpacked(archive)[frozen] == b"mp3"
    assert [each.name for each in tmp_path.iterdir()] == ["calls.zip"]


DAMAGE: dict[str, tuple[Callable[[Path], object], str]] = {
    "changed": (lambda file: file.write_bytes(b"conv_2"), "its content has changed"),
    "cut": (lambda file: file.write_bytes(b"conv"), "it has 4 bytes instead of 6"),
    "missing": (lambda file: file.unlink(), "it is missing"),
}


@pytest.mark.parametrize(("damage", "says"), DAMAGE.values(), ids=DAMAGE)
def test_verify_names_each_file_that_differs_from_the_manifest(stack, run_ops_json, destination, damage, says):
    key = put_call(stack, "conv_1")
    run_ops_json("export", str(destination), *DAY)
    damage(destination / key)
    (destination / "more.txt").write_text("more")

    code, found = run_ops_json("export", "--verify", str(destination))

    assert (code, found["title"]) == (1, "2 files, 2 with a problem")
    assert found["rows"] == [
        {"file": key, "problem": says},
        {"file": "more.txt", "problem": "it is not in the manifest"},
    ]


@pytest.mark.parametrize("manifest", ["{", "[]", '{"files": [{"key": 1}]}'], ids=["cut", "a list", "other"])
def test_a_manifest_that_cannot_be_read_is_reported(run_ops, destination, manifest):
    destination.mkdir()
    (destination / "manifest.json").write_text(manifest)

    code, _, said = run_ops("export", "--verify", str(destination))

    assert (code, said) == (
        1,
        f"The manifest.json of {destination} cannot be read: it is damaged, or not from an export.\n",
    )


def test_an_unfinished_export_does_not_pass_as_complete(run_ops, destination):
    destination.mkdir()
    (destination / "records").mkdir()

    code, _, said = run_ops("export", "--verify", str(destination))

    assert code == 1
    assert (
        f"{destination} has no manifest.json: the export is not complete, or this is not an export. To complete it"
        in said
    )


WAYS_OUT = "Delete it and run the export command again, or export to another name."


@pytest.mark.parametrize("name", ["calls.zip", "calls.tar.gz"])
def test_a_damaged_archive_file_has_two_ways_out_and_both_commands_name_them(stack, run_ops, tmp_path, name):
    put_call(stack, "conv_1")
    archive = tmp_path / name
    run_ops("export", str(archive), *DAY)
    archive.write_bytes(archive.read_bytes()[:200])

    checked, _, damage = run_ops("export", "--verify", str(archive))
    repeated, _, refusal = run_ops("export", str(archive), *DAY)

    assert (checked, repeated) == (1, 2)
    assert damage.endswith(f"it is damaged, or not an archive file. {WAYS_OUT}\n")
    verify = f"To check it: ./scripts/ops export --verify {archive} --stack calls"
    assert refusal == f"{archive} exists already. If it is damaged: {WAYS_OUT} {verify}\n"


def test_a_damaged_file_in_an_archive_file_has_the_two_ways_out_too(stack, run_ops_json, tmp_path):
    put_call(stack, "conv_1")
    archive = tmp_path / "calls.zip"
    run_ops_json("export", str(archive), *DAY)
    whole = unpacked(archive)
    with zipfile.ZipFile(archive, "w") as zipped:
        for name, body in whole.items():
            zipped.writestr(name, body if name == "manifest.json" else b"changed")

    code, found = run_ops_json("export", "--verify", str(archive))

    assert (code, found["next"]) == (1, WAYS_OUT)


def test_a_damaged_folder_is_completed_by_the_same_command(stack, run_ops_json, destination):
    key = put_call(stack, "conv_1")
    run_ops_json("export", str(destination), *DAY)
    (destination / key).unlink()

    _, found = run_ops_json("export", "--verify", str(destination))

    assert found["next"] == "Delete the damaged files, then run the export command again. It fetches them again."
