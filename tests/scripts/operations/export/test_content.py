"""What `ops export` writes."""

import gzip
import json
from hashlib import sha256
from pathlib import Path

import pytest

from tests.archiver.conftest import stage, stage_recording
from tests.scripts.operations.conftest import CALLER, NOON, archive_checks, note
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


def test_a_call_is_exported_with_all_that_is_kept_of_it(stack, run_ops_json, archive, context, destination):
    archive("conv_1", has_audio=True)
    archive_checks(context, stage_recording(stack, "conv_1", b"mp3", now=NOON))
    put(stack, f"{FOLDER}/conv_1.call_initiation_failure.json", b'{"failure_reason":"busy"}')
    put(stack, f"{FOLDER}/conv_10.json")
    note(stack, "conv_1", "memory#factual", state="done", memories=1)

    code, shown = run_ops_json("export", str(destination), "--conversation", "conv_1")

    keys = [f"{FOLDER}/conv_1{end}" for end in (".call_initiation_failure.json", ".json", ".mp3")]
    assert (code, shown["calls"], shown["files"], shown["recordings"], shown["fetched"]) == (0, 1, 4, 1, 3)
    assert exported(destination) == {*keys, "records/conv_1.json"}
    assert {key: files(destination)[key] for key in keys} == {key: stack.body(key) for key in keys}
    record = json.loads(files(destination)["records/conv_1.json"])
    assert record["memory#factual"] == {
        "conversation_id": "conv_1", "item": "memory#factual", "state": "done", "memories": 1,
    }  # fmt: skip
    assert record["call"]["summary"] == "The caller moved a boat."
    assert len(record["call"]["staged_keys"]) == 2


def test_the_manifest_names_each_file_and_its_object(stack, run_ops_json, destination):
    key = put_call(stack, "conv_1")

    run_ops_json("export", str(destination), *DAY, "--agent", "")

    found, head, body = manifest(destination), stack.head(key), files(destination)
    size = sum(map(len, body.values())) - len(body["manifest.json"])
    assert found.pop("exported_at").endswith("Z")
    assert found == {
        "version": 1, "stack": "calls", "bucket": stack.bucket,
        "choice": {
            "since": "2026-11-21T00:00:00+00:00", "until": "2026-11-22T00:00:00+00:00",
            "caller": "", "agent": "", "conversation": "", "audio": True,
        },
        "totals": {"calls": 1, "files": 2, "recordings": 0, "bytes": size, "unavailable_calls": 0, "missing": 0},
        "unavailable": [], "missing": [],
        "files": [
            {
                "key": key, "conversation_id": "conv_1", "size": 6, "sha256": sha256(b"conv_1").hexdigest(),
                "etag": head["ETag"].strip('"'), "version_id": head["VersionId"],
                "last_modified": f"{head['LastModified']:%Y-%m-%dT%H:%M:%SZ}",
            },
            {
                "key": "records/conv_1.json", "conversation_id": "conv_1",
                "size": len(body["records/conv_1.json"]), "sha256": sha256(body["records/conv_1.json"]).hexdigest(),
            },
        ],
    }  # fmt: skip


def test_an_event_that_came_before_its_call_is_exported_with_it(stack, run_ops_json, archive, context, destination):
    event = {"type": "future", "data": {"conversation_id": "conv_1", "note": "Call back."}}
    archive_checks(context, stage(stack, event, now=NOON))
    archive("conv_1")

    code, _ = run_ops_json("export", str(destination), "--caller", CALLER)

    keys = {f"{FOLDER}/conv_1.json", "no-phone/conv_1.future.json"}
    assert (code, exported(destination)) == (0, {*keys, "records/conv_1.json"})


def test_an_event_in_the_record_that_s3_does_not_have_is_missing(stack, run_ops_json, destination):
    put_call(stack, "conv_1", event_keys={"no-phone/conv_1.future.json"})

    code, _ = run_ops_json("export", str(destination), "--caller", CALLER)

    assert (code, manifest(destination)["missing"]) == (
        1, [{"key": "no-phone/conv_1.future.json", "conversation_id": "conv_1"}],
    )  # fmt: skip


@pytest.mark.parametrize(
    ("choice", "calls"),
    [
        (DAY, {"conv_1", "conv_1-a", "conv_other"}),
        (("--since", "2026-11-20"), {"conv_1", "conv_1-a", "conv_other", "conv_late"}),
        (("--caller", CALLER), {"conv_1", "conv_1-a", "conv_late"}),
        (("--caller", CALLER, "--agent", "agent_2"), {"conv_1-a"}),
        (("--caller", "no-phone"), {"conv_other"}),
        (("--conversation", "conv_1"), {"conv_1"}),
    ],
    ids=["range", "open range", "caller", "agent", "no phone", "one"],
)
def test_only_the_chosen_calls_are_exported(stack, run_ops_json, destination, choice, calls):
    put_call(stack, "conv_1")
    put_call(stack, "conv_1-a", agent_id="agent_2")
    put_call(stack, "conv_other", "no-phone")
    put_call(stack, "conv_late", archived_at="2026-11-23T12:00:00Z")

    code, shown = run_ops_json("export", str(destination), *choice)

    assert (code, shown["calls"]) == (0, len(calls))
    assert {file["conversation_id"] for file in manifest(destination)["files"]} == calls
    assert {Path(name).stem for name in exported(destination)} == calls


def test_recordings_can_be_left_out(stack, run_ops_json, destination):
    key = put_call(stack, "conv_1")
    put_recording(stack, "conv_1")

    code, _ = run_ops_json("export", str(destination), *DAY, "--no-audio")

    assert (code, exported(destination)) == (0, {key, "records/conv_1.json"})


def test_a_compressed_object_is_exported_as_it_is_stored(stack, run_ops_json, destination):
    key = put_call(stack, "conv_1")
    body = gzip.compress(b'{"conversation_id":"conv_1"}')
    put(stack, key, body, ContentEncoding="gzip")

    run_ops_json("export", str(destination), *DAY)

    assert files(destination)[key] == body
    assert [file.get("content_encoding") for file in manifest(destination)["files"]] == ["gzip", None]


def test_audio_that_waits_for_its_call_has_a_record_and_no_files(stack, run_ops_json, destination):
    note(stack, "conv_1", parked={"staged_key": "staging/x", "order": "1"})

    code, _ = run_ops_json("export", str(destination), "--conversation", "conv_1")

    assert (code, exported(destination)) == (0, {"records/conv_1.json"})


def test_a_key_that_leads_elsewhere_is_not_exported(stack, run_ops_json, destination):
    key = put_call(stack, "conv_1")
    put(stack, f"{FOLDER}/conv_1./../../../outside.json")

    code, _ = run_ops_json("export", str(destination), *DAY)

    assert (code, exported(destination)) == (0, {key, "records/conv_1.json"})
    assert [each.name for each in destination.parent.iterdir()] == ["there"]


def test_an_erased_call_is_left_out_and_removed_from_an_export_that_has_it(stack, run_ops_json, destination):
    key = put_call(stack, "conv_1")
    put_call(stack, "conv_2", "12025550124")
    run_ops_json("export", str(destination), *DAY)
    note(stack, "conv_2", erased_at="2026-11-22T12:00:00Z")

    code, shown = run_ops_json("export", str(destination), *DAY)

    assert (code, shown["calls"]) == (0, 1)
    assert exported(destination) == {key, "records/conv_1.json"}
    assert not (destination / "12025550124").exists()
    assert "conv_2" not in (destination / "manifest.json").read_text()


def test_after_a_choice_without_calls_the_folder_can_be_used_for_another_one(stack, run_ops, destination):
    put_call(stack, "conv_1")

    code, _, said = run_ops("export", str(destination), "--caller", "+12025550199")
    again, _, _ = run_ops("export", str(destination), "--caller", CALLER)

    assert (code, again) == (1, 0)
    assert said.endswith("There is nothing to export. No call fits the options, or the calls were erased.\n")
