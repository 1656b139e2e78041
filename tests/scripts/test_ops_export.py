"""`ops export`: all that is kept of the calls, each file whole, and no run in vain."""

import gzip
import json
import os
import resource
import signal
import tarfile
import time
import warnings
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from hashlib import sha256
from io import BytesIO
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.response import StreamingBody
from moto.core.models import DEFAULT_ACCOUNT_ID
from moto.s3.models import s3_backends

from scripts.ops_app import main
from scripts.ops_folder import open_folder
from tests.archiver.conftest import stage_recording
from tests.conftest import Stack
from tests.scripts.conftest import CALLER, INTERRUPTED, NOON, archive_checks, note, press_ctrl_c, table

FOLDER = CALLER[1:]
DAY = ("--since", "2026-11-21", "--until", "2026-11-22")


@pytest.fixture
def there(tmp_path: Path) -> Path:
    return tmp_path / "there"


def files(path: Path) -> dict[str, bytes]:
    """The files of an export, without its own notes."""
    found = {each.relative_to(path).as_posix(): each.read_bytes() for each in path.rglob("*") if each.is_file()}
    return {name: body for name, body in found.items() if not name.startswith(".export/")}


def exported(path: Path) -> set[str]:
    return files(path).keys() - {"manifest.json"}


def manifest(path: Path) -> dict[str, Any]:
    return json.loads((path / "manifest.json").read_text())


def put(stack: Stack, key: str, body: bytes = b"{}", **options: Any) -> None:
    stack.s3.put_object(Bucket=stack.bucket, Key=key, Body=body, **options)


def put_call(stack: Stack, conversation_id: str, folder: str = FOLDER, **record: Any) -> str:
    """A call as short as can be; returns the key of its JSON."""
    key = f"{folder}/{conversation_id}.json"
    put(stack, key, conversation_id.encode())
    fields = {"folder": folder, "json_key": key, "audio": "none", "archived_at": "2026-11-21T12:00:00Z"}
    note(stack, conversation_id, **fields | record)
    return key


def put_recording(stack: Stack, conversation_id: str, body: bytes = b"mp3", **options: Any) -> str:
    key = f"{FOLDER}/{conversation_id}.mp3"
    put(stack, key, body, **options)
    note(stack, conversation_id, mp3_key=key, audio="archived")
    return key


# ---------------------------------------------------------------- what is exported


def test_a_call_is_exported_with_all_that_is_kept_of_it(stack, ask, archive, context, there):
    archive("conv_1", has_audio=True)
    archive_checks(context, stage_recording(stack, "conv_1", b"mp3", now=NOON))
    put(stack, f"{FOLDER}/conv_1.call_initiation_failure.json", b'{"failure_reason":"busy"}')
    put(stack, f"{FOLDER}/conv_10.json")
    note(stack, "conv_1", "memory#factual", state="done", memories=1)

    code, shown = ask("export", str(there), "--conversation", "conv_1")

    keys = [f"{FOLDER}/conv_1{end}" for end in (".call_initiation_failure.json", ".json", ".mp3")]
    assert (code, shown["calls"], shown["files"], shown["recordings"], shown["fetched"]) == (0, 1, 4, 1, 3)
    assert exported(there) == {*keys, "records/conv_1.json"}
    assert {key: files(there)[key] for key in keys} == {key: stack.body(key) for key in keys}
    record = json.loads(files(there)["records/conv_1.json"])
    assert record["memory#factual"] == {
        "conversation_id": "conv_1", "item": "memory#factual", "state": "done", "memories": 1,
    }  # fmt: skip
    assert record["call"]["summary"] == "The caller moved a boat."
    assert len(record["call"]["staged_keys"]) == 2


def test_the_manifest_names_each_file_and_what_it_was(stack, ask, there):
    key = put_call(stack, "conv_1")

    ask("export", str(there), *DAY, "--agent", "")

    found, head, body = manifest(there), stack.head(key), files(there)
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
def test_only_the_chosen_calls_are_exported(stack, ask, there, choice, calls):
    put_call(stack, "conv_1")
    put_call(stack, "conv_1-a", agent_id="agent_2")
    put_call(stack, "conv_other", "no-phone")
    put_call(stack, "conv_late", archived_at="2026-11-23T12:00:00Z")

    code, shown = ask("export", str(there), *choice)

    assert (code, shown["calls"]) == (0, len(calls))
    assert {file["conversation_id"] for file in manifest(there)["files"]} == calls
    assert {Path(name).stem for name in exported(there)} == calls


def test_recordings_can_be_left_out(stack, ask, there):
    key = put_call(stack, "conv_1")
    put_recording(stack, "conv_1")

    code, _ = ask("export", str(there), *DAY, "--no-audio")

    assert (code, exported(there)) == (0, {key, "records/conv_1.json"})


def test_what_is_stored_compressed_is_exported_as_it_is_stored(stack, ask, there):
    key = put_call(stack, "conv_1")
    body = gzip.compress(b'{"conversation_id":"conv_1"}')
    put(stack, key, body, ContentEncoding="gzip")

    ask("export", str(there), *DAY)

    assert files(there)[key] == body
    assert [file.get("content_encoding") for file in manifest(there)["files"]] == ["gzip", None]


def test_audio_that_waits_for_its_call_has_a_record_and_no_files(stack, ask, there):
    note(stack, "conv_1", parked={"staged_key": "staging/x", "order": "1"})

    code, _ = ask("export", str(there), "--conversation", "conv_1")

    assert (code, exported(there)) == (0, {"records/conv_1.json"})


def test_a_key_that_leads_elsewhere_is_not_exported(stack, ask, there):
    key = put_call(stack, "conv_1")
    put(stack, f"{FOLDER}/conv_1./../../../outside.json")

    code, _ = ask("export", str(there), *DAY)

    assert (code, exported(there)) == (0, {key, "records/conv_1.json"})
    assert [each.name for each in there.parent.iterdir()] == ["there"]


def test_an_erased_call_is_left_out_and_goes_from_an_export_that_has_it(stack, ask, there):
    key = put_call(stack, "conv_1")
    put_call(stack, "conv_2", "12025550124")
    ask("export", str(there), *DAY)
    note(stack, "conv_2", erased_at="2026-11-22T12:00:00Z")

    code, shown = ask("export", str(there), *DAY)

    assert (code, shown["calls"]) == (0, 1)
    assert exported(there) == {key, "records/conv_1.json"}
    assert not (there / "12025550124").exists()
    assert "conv_2" not in (there / "manifest.json").read_text()


def test_a_choice_that_nothing_fits_leaves_the_folder_to_the_next_one(stack, say, there):
    put_call(stack, "conv_1")

    code, _, said = say("export", str(there), "--caller", "+12025550199")
    again, _, _ = say("export", str(there), "--caller", CALLER)

    assert (code, again) == (1, 0)
    assert said.endswith("There is nothing to export: no call fits the choice, or it was erased.\n")


# ---------------------------------------------------------------- going on


COUNT = 2000
CALLERS = 400


@pytest.fixture
def many(stack: Stack) -> dict[str, bytes]:
    """2,000 calls in the bucket and the table; returns the objects."""
    backend = s3_backends[DEFAULT_ACCOUNT_ID]["aws"]
    objects: dict[str, bytes] = {}
    with table(stack).batch_writer() as writer:
        for number in range(COUNT):
            folder, call = f"1202555{100 + number % CALLERS:04}", f"conv_{number}"
            objects[f"{folder}/{call}.json"] = f'{{"call":{number}}}'.encode()
            writer.put_item(
                Item={
                    "conversation_id": call, "item": "call", "folder": folder, "json_key": f"{folder}/{call}.json",
                    "audio": "none", "archived_at": "2026-11-21T12:00:00Z",
                }
            )  # fmt: skip
    for key, body in objects.items():
        backend.put_object(stack.bucket, key, body)
    return objects


def start(*words: str) -> int:
    """Run a command in a process of its own, a fork, which has a copy of moto's AWS; returns the process's id."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # the threads of xdist do nothing that the child needs
        process = os.fork()
    if not process:
        os._exit(main(["--stack", "calls", *words]))
    return process


def noted(path: Path) -> list[str]:
    """The keys in an export's journal, as far as its lines are whole."""
    journal = path / ".export" / "journal.jsonl"
    lines = journal.read_text().split("\n")[1:-1] if journal.exists() else []
    return [json.loads(line)["key"] for line in lines]


def test_an_export_of_2000_calls_that_is_killed_half_way_goes_on_where_it_was(stack, ask, many, wire, there):
    process = start("export", str(there), *DAY)
    while len(noted(there)) < COUNT and os.waitpid(process, os.WNOHANG) == (0, 0):
        time.sleep(0.02)
    os.kill(process, signal.SIGKILL)
    _, status = os.waitpid(process, 0)
    kept, complete = set(noted(there)), (there / "manifest.json").exists()
    whole = all(body == many[name] for name, body in files(there).items() if name in many)
    gets: list[None] = []
    wire.after("GetObject", lambda: gets.append(None))

    code, shown = ask("export", str(there), *DAY)

    assert (os.WTERMSIG(status), complete, whole) == (signal.SIGKILL, False, True)
    assert (code, shown["calls"], shown["files"]) == (0, COUNT, 2 * COUNT)
    assert len(gets) == shown["fetched"] == COUNT - len(kept & many.keys())
    assert {name: body for name, body in files(there).items() if name in many} == many
    assert ask("export", "--verify", str(there)) == (0, {"title": f"{2 * COUNT} files, 0 with a problem", "rows": []})
    assert sorted(each.name for each in (there / ".export").iterdir()) == ["journal.jsonl", "lock"]
