"""`ops export`: all that is kept of the calls, each file whole, and no run in vain."""

import gzip
import json
import os
import resource
import shutil
import signal
import tarfile
import time
import tracemalloc
import warnings
import zipfile
from collections.abc import Callable, Iterable, Iterator
from hashlib import sha256
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from botocore.response import StreamingBody
from moto.core.models import DEFAULT_ACCOUNT_ID
from moto.dynamodb.models import dynamodb_backends
from moto.s3.models import s3_backends

from scripts.operations.app import main
from scripts.operations.export_folder import NameRefusedError, open_folder
from tests.archiver.conftest import stage, stage_recording
from tests.conftest import Stack
from tests.processes import LONGEST, at_most
from tests.scripts.operations.conftest import CALLER, INTERRUPTED, NOON, archive_checks, modes, note, press_ctrl_c

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
    fields |= {} if folder == "no-phone" else {"caller": folder, "numbers": {folder}}
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


def test_an_event_that_came_before_its_call_is_exported_with_it(stack, ask, archive, context, there):
    event = {"type": "future", "data": {"conversation_id": "conv_1", "note": "Call back."}}
    archive_checks(context, stage(stack, event, now=NOON))
    archive("conv_1")

    code, _ = ask("export", str(there), "--caller", CALLER)

    keys = {f"{FOLDER}/conv_1.json", "no-phone/conv_1.future.json"}
    assert (code, exported(there)) == (0, {*keys, "records/conv_1.json"})


def test_an_event_that_the_record_knows_and_s3_does_not_is_missing(stack, ask, there):
    put_call(stack, "conv_1", event_keys={"no-phone/conv_1.future.json"})

    code, _ = ask("export", str(there), "--caller", CALLER)

    assert (code, manifest(there)["missing"]) == (
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


COUNT = 1100  # enough to read 33 calls together, and more than that of each caller
CALLERS = 20


@pytest.fixture
def many(stack: Stack) -> dict[str, bytes]:
    """Many calls, laid straight into moto's bucket and table; returns the objects."""
    bucket, records = s3_backends[DEFAULT_ACCOUNT_ID]["aws"], dynamodb_backends[DEFAULT_ACCOUNT_ID]["us-east-1"].tables
    objects: dict[str, bytes] = {}
    for number in range(COUNT):
        folder, call = f"1202555{100 + number // 2 % CALLERS:04}", f"conv_{number // 2}{'-a' * (number % 2)}"
        key = f"{folder}/{call}.json"
        objects[key] = f'{{"call":{number}}}'.encode()
        bucket.put_object(stack.bucket, key, objects[key])
        record = {
            "conversation_id": call, "item": "call", "folder": folder, "json_key": key, "audio": "none",
            "archived_at": "2026-11-21T12:00:00Z",
        }  # fmt: skip
        records[stack.outputs["ConversationTableName"]].put_item({name: {"S": text} for name, text in record.items()})
    return objects


def start(*words: str) -> int:
    """Run a command in a process of its own, a fork, which has a copy of moto's AWS; returns the process's id."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # the threads of xdist do nothing that the child needs
        process = os.fork()
    if not process:
        os._exit(main(["--stack", "calls", *words]))
    return process


def noted(path: Path) -> list[bytes]:
    """The lines of an export's journal, as far as they are whole, without the first."""
    journal = path / ".export" / "journal.jsonl"
    return journal.read_bytes().split(b"\n")[1:-1] if journal.exists() else []


def test_an_export_of_many_calls_that_is_killed_half_way_goes_on_where_it_was(stack, ask, many, wire, there):
    process = start("export", str(there), *DAY)
    with at_most(LONGEST, lambda: os.kill(process, signal.SIGKILL)):
        while len(noted(there)) < COUNT and os.waitpid(process, os.WNOHANG) == (0, 0):
            time.sleep(0.01)
    os.kill(process, signal.SIGKILL)
    _, status = os.waitpid(process, 0)
    kept, complete = {json.loads(line)["key"] for line in noted(there)}, (there / "manifest.json").exists()
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


def test_only_what_is_missing_or_changed_is_fetched_again(stack, ask, wire, there):
    same, changed, lost, cut = (put_call(stack, f"conv_{name}") for name in ("same", "changed", "lost", "cut"))
    ask("export", str(there), *DAY)
    put(stack, changed, b"CONV_changed")
    (there / lost).unlink()
    (there / cut).write_bytes(b"c")
    gets: list[None] = []
    wire.after("GetObject", lambda: gets.append(None))

    code, shown = ask("export", str(there), *DAY)

    assert (code, shown["fetched"], len(gets)) == (0, 3, 3)
    assert [files(there)[key] for key in (same, changed, lost, cut)] == [
        b"conv_same", b"CONV_changed", b"conv_lost", b"conv_cut",
    ]  # fmt: skip
    assert ask("export", "--verify", str(there))[0] == 0


def test_hours_ago_count_from_the_first_run(stack, ask, there):
    put_call(stack, "conv_1")
    ask("export", str(there), "--since", "900000h")
    first = manifest(there)["choice"]

    ask("export", str(there), "--since", "900000h")

    assert manifest(there)["choice"] == first
    assert first["since"] != "900000h"


def test_a_journal_that_breaks_off_in_a_line_costs_no_more_than_that_line(stack, ask, there):
    put_call(stack, "conv_1")
    put_call(stack, "conv_2", "12025550124")
    ask("export", str(there), *DAY)
    journal = there / ".export" / "journal.jsonl"
    whole = [line for line in journal.read_text().splitlines(keepends=True) if "records/" not in line]
    journal.write_text("".join(whole)[:-9])
    (there / ".export" / "tmp123").write_text("half a rec")

    code, shown = ask("export", str(there), *DAY)
    again = ask("export", str(there), *DAY)

    assert (code, shown["fetched"], shown["files"]) == (0, 1, 4)
    assert again[1]["fetched"] == 0
    assert sorted(each.name for each in (there / ".export").iterdir()) == ["journal.jsonl", "lock"]


def test_ctrl_c_ends_it_and_the_same_command_goes_on(stack, say, ask, wire, there):
    for number in range(20):
        put_call(stack, f"conv_{number}")
    gets: list[None] = []

    def press() -> None:
        gets.append(None)
        if len(gets) == 5:
            press_ctrl_c()
        elif len(gets) > 5:
            time.sleep(0.2)  # so that they are not all through before Ctrl-C is heard

    wire.after("GetObject", press)

    code, _, said = say("export", str(there), *DAY)
    complete = (there / "manifest.json").exists()
    wire.calm()
    again, shown = ask("export", str(there), *DAY)

    assert (code, complete, again, shown["files"]) == (130, False, 0, 40)
    assert said.endswith(f"{INTERRUPTED}\n")
    assert 0 < shown["fetched"] < 20


def test_a_line_that_breaks_in_the_middle_is_tried_again(stack, ask, wire, there):
    key = put_call(stack, "conv_1")
    broken = stack.s3.get_object(Bucket=stack.bucket, Key=key) | {"Body": StreamingBody(BytesIO(b"co"), 6)}
    wire.answer("GetObject", broken)

    code, _ = ask("export", str(there), *DAY)

    assert (code, files(there)[key]) == (0, b"conv_1")


# ---------------------------------------------------------------- what it refuses, and what it cannot have


def test_a_folder_that_holds_something_else_is_left_alone(stack, say, there):
    put_call(stack, "conv_1")
    there.mkdir()
    (there / "letter.txt").write_text("Dear …")

    code, _, said = say("export", str(there), *DAY)

    assert (code, said) == (2, f"{there} holds something else: name a new or an empty folder.\n")
    assert [each.name for each in there.iterdir()] == ["letter.txt"]


def test_an_export_of_another_choice_is_left_alone(stack, say, there):
    put_call(stack, "conv_1")
    say("export", str(there), *DAY)
    before = files(there)

    code, _, said = say("export", str(there), *DAY, "--no-audio")

    assert (code, files(there)) == (2, before)
    assert said == f"{there} holds the export of another choice: choose as before, or name another folder.\n"


def test_two_runs_do_not_write_into_one_folder(stack, say, there):
    put_call(stack, "conv_1")
    with open_folder(there):
        code, _, said = say("export", str(there), *DAY)

    assert (code, said) == (1, f"Another export to {there} is under way.\n")


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("there",), "Which calls? Choose them with --since or --caller, or name one conversation."),
        (("there", "--since", "soon"), "'soon' is no time"),
        (("file", *DAY), "file is a file: name a folder, or a file that ends in .zip or .tar.gz."),
        (("file/there", *DAY), "file/there could not be written (Not a directory)."),
        (("file.zip", *DAY), "file.zip is there already: check it with --verify, or name another file."),
        (("--verify", "there"), "There is no"),
        (("--verify", "file"), "file has no manifest.json: it is damaged, or no archive file."),
        (("--verify", "file.zip", *DAY), "--verify checks an export that is there: leave the choice out."),
    ],
    ids=["no choice", "no time", "file", "no folder", "archive", "nothing to verify", "no export", "verify a choice"],
)
def test_what_cannot_be_done_is_said_in_a_sentence(stack, say, tmp_path, monkeypatch, words, says):
    monkeypatch.chdir(tmp_path)
    for name in ("file", "file.zip"):
        Path(name).write_text("a letter")

    code, _, said = say("export", *words)

    assert code in (1, 2)
    assert says in said
    assert "Traceback" not in said
    assert sorted(each.name for each in tmp_path.iterdir()) == ["file", "file.zip"]


def test_a_recording_in_an_archive_class_is_named_and_the_rest_is_exported(stack, ask, there):
    cold, warm = put_call(stack, "conv_cold"), put_call(stack, "conv_warm")
    frozen = put_recording(stack, "conv_cold", StorageClass="DEEP_ARCHIVE")

    code, shown = ask("export", str(there), *DAY)
    verified, checked = ask("export", "--verify", str(there))

    assert (code, shown["unavailable_calls"], shown["calls"]) == (1, 1, 2)
    assert f"aws s3api restore-object --bucket {stack.bucket} --key KEY" in shown["next"]
    assert exported(there) == {cold, warm, "records/conv_cold.json", "records/conv_warm.json"}
    assert manifest(there)["unavailable"] == [
        {"key": frozen, "conversation_id": "conv_cold", "storage_class": "DEEP_ARCHIVE"}
    ]
    assert (verified, checked["title"]) == (0, "4 files, 0 with a problem; by its manifest it lacks 1 more")


def test_what_the_record_knows_and_s3_does_not_have_is_named(stack, ask, there):
    put_call(stack, "conv_1")
    key = put_recording(stack, "conv_1")
    stack.s3.delete_object(Bucket=stack.bucket, Key=key)

    code, shown = ask("export", str(there), *DAY)

    assert (code, shown["missing"]) == (1, 1)
    assert "ops verify CONVERSATION" in shown["next"]
    assert manifest(there)["missing"] == [{"key": key, "conversation_id": "conv_1"}]


def test_a_disk_that_takes_no_more_is_said_and_with_room_it_goes_on(stack, say, ask, there):
    put_call(stack, "conv_1")
    key = put_recording(stack, "conv_1", os.urandom(3_000_000))
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, before[1]))
    try:
        code, _, said = say("export", str(there), *DAY)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    left = exported(there), sorted(each.name for each in (there / ".export").iterdir())

    again, _ = ask("export", str(there), *DAY)

    why = f"{there} could not be written (File too large)."
    assert (code, said.strip()) == (1, f"{why} What is there stays: the same command goes on from it.")
    assert left == ({f"{FOLDER}/conv_1.json"}, ["journal.jsonl", "lock"])
    assert (again, files(there)[key]) == (0, stack.body(key))


def test_without_permission_it_says_for_what_and_the_export_is_complete_no_more(stack, say, wire, there):
    key = put_call(stack, "conv_1")
    say("export", str(there), *DAY)
    put(stack, key, b"changed")
    wire.refuse("GetObject")

    code, _, said = say("export", str(there), *DAY)

    assert code == 2
    assert said.endswith("AWS refused GetObject (AccessDenied): your credentials may not do this.\n")
    assert not (there / "manifest.json").exists()


# ---------------------------------------------------------------- who may read it


def test_only_its_owner_may_read_an_export_whatever_the_umask(stack, ask, tmp_path, careless):
    put_call(stack, "conv_1")
    frozen = put_recording(stack, "conv_1", StorageClass="GLACIER")
    empty = tmp_path / "empty"
    empty.mkdir()
    new = tmp_path / "new" / "export"
    archive = tmp_path / "calls.zip"

    for destination in (empty, new, archive):
        ask("export", str(destination), *DAY)
    archive_modes = modes(tmp_path / "calls.zip") | modes(tmp_path / "calls.zip.parts")
    stack.s3.restore_object(Bucket=stack.bucket, Key=frozen, RestoreRequest={"Days": 1})
    ask("export", str(archive), *DAY)

    folders = {"export": "700", ".export": "700", FOLDER: "700", "records": "700"}
    inside = {"manifest.json": "600", "conv_1.json": "600", "journal.jsonl": "600", "lock": "600"}
    assert modes(new) == folders | inside
    assert modes(new.parent)["new"] == modes(empty)["empty"] == "700"
    assert set(archive_modes.values()) == {"600", "700"}
    assert archive_modes["calls.zip.parts"] == "700"
    assert modes(archive) == {"calls.zip": "600"}


# ---------------------------------------------------------------- names that lead out of the folder


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    """A folder beside the export, with a file that nobody may touch."""
    folder = tmp_path / "outside"
    folder.mkdir()
    (folder / "conv_1.json").write_text("mine")
    return folder


@pytest.mark.parametrize("conversation_id", ["../../outside/conv_1", "../records/x", "/tmp/x", "a/b", "\x1b[2J", "x\n"])
def test_a_record_whose_id_leads_elsewhere_is_reported_and_the_rest_is_exported(
    stack, say, ask, there, outside, conversation_id
):
    key = put_call(stack, "conv_1")
    note(stack, conversation_id, folder="../outside", json_key=["no", "key"], audio="none",
         archived_at="2026-11-21T12:00:00Z")  # fmt: skip

    code, out, _ = say("export", str(there), *DAY)
    found = manifest(there)

    assert (code, exported(there)) == (1, {key, "records/conv_1.json"})
    assert found["unavailable"] == [
        {
            "key": f"records/{conversation_id}.json", "conversation_id": conversation_id,
            "reason": "the id would lead out of the export",
        }
    ]  # fmt: skip
    assert found["totals"]["unavailable_calls"] == 1
    assert 'manifest.json lists them under "unavailable"' in " ".join(out.split())
    assert {each.name: each.read_text() for each in outside.iterdir()} == {"conv_1.json": "mine"}
    assert sorted(each.name for each in there.parent.iterdir()) == ["outside", "there"]


@pytest.mark.parametrize(
    "name", ["../outside/conv_1.json", "records/../../x.json", "manifest.json", "/nowhere/x.json", ""]
)
def test_a_folder_writes_no_file_whose_name_is_none_of_an_export(there, outside, name):
    with open_folder(there) as folder, pytest.raises(NameRefusedError):
        folder.write(name, [b"{}"])

    assert [each.name for each in there.rglob("*.json")] == []
    assert (outside / "conv_1.json").read_text() == "mine"


@pytest.mark.parametrize("name", ["records", FOLDER, ".export", ".export/lock", ".export/journal.jsonl"])
def test_a_link_in_the_folder_is_not_followed(stack, say, there, outside, name):
    key = put_call(stack, "conv_1")
    say("export", str(there), *DAY)
    victim = outside / "conv_1.json" if name.startswith(".export/") else outside
    if (there / name).is_dir():
        shutil.copytree(there / name, outside, dirs_exist_ok=True)
        shutil.rmtree(there / name)
    else:
        (there / name).unlink()
    (there / name).symlink_to(victim)
    put(stack, key, b"changed")
    before = files(outside)

    code, _, said = say("export", str(there), *DAY)

    assert (code, said) == (
        2, f"{there / name} is a link, which an export does not have: name a new or an empty folder.\n",
    )  # fmt: skip
    assert files(outside) == before


def test_a_link_in_place_of_a_file_is_replaced_and_not_followed(stack, ask, there, outside):
    key = put_call(stack, "mine_")
    ask("export", str(there), *DAY)
    (outside / "conv_1.json").write_text("1" * len(files(there)[key]))
    (there / key).unlink()
    (there / key).symlink_to(outside / "conv_1.json")

    unchecked = ask("export", "--verify", str(there))
    code, shown = ask("export", str(there), *DAY)

    assert unchecked == (
        1, {"title": "2 files, 1 with a problem", "rows": [{"file": key, "problem": "it is a link"}]},
    )  # fmt: skip
    assert (code, shown["fetched"], (there / key).is_symlink()) == (0, 1, False)
    assert files(there)[key] == b"mine_"
    assert (outside / "conv_1.json").read_text() == "11111"


def test_a_journal_of_somebody_elses_leads_nowhere(stack, ask, there, outside):
    put_call(stack, "conv_1")
    ask("export", str(there), *DAY)
    journal = there / ".export" / "journal.jsonl"
    lines = [
        {"key": "../outside/conv_1.json", "conversation_id": "conv_1", "size": 4, "sha256": "0"},
        {"key": 5, "conversation_id": "conv_1", "size": 4, "sha256": "0"},
        {"name": "conv_1"}, [], 5,
    ]  # fmt: skip
    journal.write_text(journal.read_text() + "".join(f"{json.dumps(line)}\n" for line in lines))

    code, shown = ask("export", str(there), *DAY)

    assert (code, shown["fetched"]) == (0, 0)
    assert "outside" not in journal.read_text() + (there / "manifest.json").read_text()
    assert (outside / "conv_1.json").read_text() == "mine"


@pytest.mark.parametrize(
    "header", ["5", "[]", '{"asked": {}}', '{"version":1,"stack":"","asked":{},"since":5,"until":""}']
)
def test_a_journal_that_no_export_wrote_makes_no_export_of_a_folder(stack, say, there, header):
    put_call(stack, "conv_1")
    (there / ".export").mkdir(parents=True)
    (there / ".export" / "journal.jsonl").write_text(header)
    (there / "letter.txt").write_text("Dear …")

    code, _, said = say("export", str(there), *DAY)

    assert (code, said) == (2, f"{there} holds something else: name a new or an empty folder.\n")


# ---------------------------------------------------------------- archive files, and checking


def unpacked(archive: Path) -> dict[str, bytes]:
    if archive.suffix == ".zip":
        with zipfile.ZipFile(archive) as zipped:
            return {name: zipped.read(name) for name in zipped.namelist()}
    with tarfile.open(archive) as tarred:
        return {name: tarred.extractfile(name).read() for name in tarred.getnames()}


@pytest.mark.parametrize("name", ["calls.zip", "calls.tar.gz"])
def test_an_archive_file_holds_the_same_and_its_parts_go(stack, ask, there, tmp_path, name):
    put_call(stack, "conv_1")
    put_recording(stack, "conv_1")
    archive = tmp_path / name

    code, _ = ask("export", str(archive), *DAY)
    ask("export", str(there), *DAY)

    assert code == 0
    assert sorted(each.name for each in tmp_path.iterdir()) == [name, "there"]
    assert {key: body for key, body in unpacked(archive).items() if key != "manifest.json"} == {
        key: body for key, body in files(there).items() if key != "manifest.json"
    }
    assert archive.stat().st_mode & 0o777 == 0o600
    assert ask("export", "--verify", str(archive))[0] == 0


@pytest.mark.parametrize("name", ["calls.zip", "calls.tar.gz"])
def test_an_archive_file_that_is_damaged_or_cut_off_does_not_pass(stack, ask, say, tmp_path, name):
    put_call(stack, "conv_1")
    put_recording(stack, "conv_1", os.urandom(50_000))
    archive = tmp_path / name
    ask("export", str(archive), *DAY)
    whole = bytearray(archive.read_bytes())
    verdicts = []

    for damaged in (whole[: len(whole) // 2], whole[:30_000] + b"1234" + whole[30_004:]):
        archive.write_bytes(damaged)
        code, out, said = say("export", "--verify", str(archive))
        verdicts.append(code)
        assert "damaged" in out + said or "changed" in out

    assert verdicts == [1, 1]


def test_an_archive_file_is_made_anew_while_its_parts_are_there(stack, ask, tmp_path):
    put_call(stack, "conv_1")
    frozen = put_recording(stack, "conv_1", StorageClass="GLACIER")
    archive = tmp_path / "calls.zip"
    code, _ = ask("export", str(archive), *DAY)
    stack.s3.restore_object(Bucket=stack.bucket, Key=frozen, RestoreRequest={"Days": 1})

    again, shown = ask("export", str(archive), *DAY)

    assert (code, again, shown["fetched"]) == (1, 0, 1)
    assert unpacked(archive)[frozen] == b"mp3"
    assert [each.name for each in tmp_path.iterdir()] == ["calls.zip"]


DAMAGE: dict[str, tuple[Callable[[Path], object], str]] = {
    "changed": (lambda file: file.write_bytes(b"conv_2"), "its content has changed"),
    "cut": (lambda file: file.write_bytes(b"conv"), "it has 4 bytes instead of 6"),
    "missing": (lambda file: file.unlink(), "it is missing"),
}


@pytest.mark.parametrize(("damage", "says"), DAMAGE.values(), ids=DAMAGE)
def test_verify_names_each_file_that_is_not_as_the_manifest_says(stack, ask, there, damage, says):
    key = put_call(stack, "conv_1")
    ask("export", str(there), *DAY)
    damage(there / key)
    (there / "more.txt").write_text("more")

    code, found = ask("export", "--verify", str(there))

    assert (code, found["title"]) == (1, "2 files, 2 with a problem")
    assert found["rows"] == [
        {"file": key, "problem": says},
        {"file": "more.txt", "problem": "the manifest does not know it"},
    ]


@pytest.mark.parametrize("manifest", ["{", "[]", '{"files": [{"key": 1}]}'], ids=["cut", "a list", "other"])
def test_a_manifest_that_cannot_be_read_is_said(say, there, manifest):
    there.mkdir()
    (there / "manifest.json").write_text(manifest)

    code, _, said = say("export", "--verify", str(there))

    assert (code, said) == (1, f"The manifest.json of {there} cannot be read: it is damaged, or not of an export.\n")


def test_an_export_under_way_does_not_pass_for_a_complete_one(say, there):
    there.mkdir()
    (there / "records").mkdir()

    code, _, said = say("export", "--verify", str(there))

    assert code == 1
    assert f"{there} has no manifest.json: the export is not complete, or it is none." in said


# ---------------------------------------------------------------- archive files that somebody else made

MEGABYTE = 1 << 20
Member = tuple[str, int, bytes]  # name, size, and a piece that is repeated


class Repeated:
    """A file of a size that nobody could hold in memory."""

    def __init__(self, size: int, piece: bytes) -> None:
        self._left, self._piece = size, piece

    def read(self, size: int) -> bytes:
        size = min(size, self._left)
        self._left -= size
        return (self._piece * (size // len(self._piece) + 1))[:size]


def craft(path: Path, members: Iterable[Member]) -> None:
    if path.suffix == ".zip":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as zipped:
            for name, size, piece in members:
                with zipped.open(name, "w") as member:
                    shutil.copyfileobj(Repeated(size, piece), member)
    else:
        with tarfile.open(path, "w:gz", compresslevel=1) as tarred:
            for name, size, piece in members:
                info = tarfile.TarInfo(name)
                info.size = size
                tarred.addfile(info, Repeated(size, piece))
                tarred.members.clear()


def craft_export(path: Path, key: str, size: int, *more: Member) -> None:
    listed = json.dumps({"files": [{"key": key, "size": 4, "sha256": sha256(b"1234").hexdigest()}]}).encode()
    craft(path, [("manifest.json", len(listed), listed), (key, size, b"1234"), *more])


@pytest.fixture
def peak() -> Iterator[Callable[[], float]]:
    """The most megabytes of memory that were in use at a time since the test began."""
    tracemalloc.start()
    yield lambda: tracemalloc.get_traced_memory()[1] / MEGABYTE
    tracemalloc.stop()


KEY = "records/conv_1.json"


@pytest.mark.parametrize("name", ["calls.zip", "calls.tar.gz"])
def test_a_manifest_that_is_larger_than_its_archive_is_not_read(say, tmp_path, peak, name):
    craft(tmp_path / name, [("manifest.json", 100 * MEGABYTE, b" ")])

    code, _, said = say("export", "--verify", str(tmp_path / name))

    assert code == 1
    assert said == f"The manifest.json of {tmp_path / name} cannot be read: it is damaged, or not of an export.\n"
    assert peak() < 50


def test_a_manifest_with_holes_is_not_read(say, there, peak):
    there.mkdir()
    with (there / "manifest.json").open("wb") as file:
        file.truncate(100 * MEGABYTE)

    code, _, said = say("export", "--verify", str(there))

    assert (code, said) == (1, f"The manifest.json of {there} cannot be read: it is damaged, or not of an export.\n")
    assert peak() < 50


@pytest.mark.parametrize("name", ["calls.zip", "calls.tar.gz"])
def test_a_file_is_read_no_further_than_the_manifest_says(ask, tmp_path, peak, name):
    craft_export(tmp_path / name, KEY, 100 * MEGABYTE)

    code, found = ask("export", "--verify", str(tmp_path / name))

    assert (code, found["rows"]) == (1, [{"file": KEY, "problem": "it has more than 4 bytes"}])
    assert peak() < 50


@pytest.mark.parametrize("name", ["calls.zip", "calls.tar.gz"])
def test_names_without_end_are_not_kept(ask, tmp_path, peak, name):
    names = ("x" * 9 + str(number) for number in range(3_000))
    craft_export(tmp_path / name, KEY, 4, *((each, 0, b"1") for each in names))

    code, found = ask("export", "--verify", str(tmp_path / name))

    assert (code, len(found["rows"])) == (1, 1001)
    assert found["rows"][0] == {"file": "xxxxxxxxx0", "problem": "the manifest does not know it"}
    assert found["rows"][-1] == {"file": name, "problem": "it has 1000 such files: the rest was not looked at"}
    assert peak() < 50


def header(kind: bytes, size: int) -> bytes:
    info = tarfile.TarInfo("x")
    info.type, info.size = kind, size
    return info.tobuf(tarfile.GNU_FORMAT)


@pytest.mark.parametrize(
    ("start", "piece", "size"),
    [
        (header(tarfile.GNUTYPE_LONGNAME, 100 * MEGABYTE), b"x", 100 * MEGABYTE),
        (header(tarfile.XHDTYPE, 100 * MEGABYTE), b"x", 100 * MEGABYTE),
        (b"", header(tarfile.XGLTYPE, 512) + f"512 a={'x' * 505}\n".encode(), 100 * MEGABYTE),
        (b"", header(tarfile.GNUTYPE_LONGNAME, 512) + b"x" * 512, 100 * MEGABYTE),
    ],
    ids=["a long name", "a long extended header", "global headers without end", "names without a file"],
)
def test_a_header_that_claims_too_much_is_damage(say, tmp_path, peak, start, piece, size):
    archive = tmp_path / "calls.tar.gz"
    with gzip.open(archive, "wb", compresslevel=1) as zipped:
        zipped.write(start)
        shutil.copyfileobj(Repeated(size, piece), zipped)

    code, _, said = say("export", "--verify", str(archive))

    assert (code, "it is damaged, or no archive file" in said) == (1, True)
    assert peak() < 50


@pytest.mark.parametrize("name", ["calls.zip", "calls.tar.gz"])
def test_a_name_that_comes_twice_or_leads_elsewhere_does_not_pass(ask, tmp_path, name):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # zipfile's, about names that come twice
        craft_export(tmp_path / name, KEY, 4, (KEY, 4, b"4321"))
        craft_export(tmp_path / f"out-{name}", "../conv_1.json", 4)

    twice, out = (ask("export", "--verify", str(tmp_path / each)) for each in (name, f"out-{name}"))

    assert [(code, found["rows"]) for code, found in (twice, out)] == [
        (1, [{"file": KEY, "problem": "it is there twice"}]),
        (1, [{"file": "../conv_1.json", "problem": "an export has no file of this name"}]),
    ]


def test_a_link_in_an_archive_file_does_not_pass(ask, tmp_path):
    craft_export(tmp_path / "calls.tar.gz", KEY, 4)
    with gzip.open(tmp_path / "calls.tar.gz") as zipped:
        plain = zipped.read().rstrip(b"\0")
    link = tarfile.TarInfo("records")
    link.type, link.linkname = tarfile.SYMTYPE, "/etc"
    padded = plain + b"\0" * (-len(plain) % 512) + link.tobuf() + b"\0" * 1024
    (tmp_path / "calls.tar.gz").write_bytes(gzip.compress(padded))

    code, found = ask("export", "--verify", str(tmp_path / "calls.tar.gz"))

    assert (code, found["rows"]) == (1, [{"file": "records", "problem": "the manifest does not know it"}])


def test_a_file_that_claims_more_than_it_holds_is_not_read(ask, tmp_path):
    """A sparse file of GNU tar: its 2^60 bytes of nothing would take years to read."""
    archive, size = tmp_path / "calls.tar.gz", 2**60
    sparse = bytearray(header(tarfile.GNUTYPE_SPARSE, 0))
    sparse[: len(KEY)] = KEY.encode()
    sparse[483:495] = b"\x80" + size.to_bytes(11, "big")
    sparse[148:156] = b" " * 8
    sparse[148:156] = b"%06o\0 " % sum(sparse)
    manifest = json.dumps({"files": [{"key": KEY, "size": size, "sha256": "0" * 64}]}).encode()
    info = tarfile.TarInfo("manifest.json")
    info.size = len(manifest)
    padded = info.tobuf() + manifest + b"\0" * (-len(manifest) % 512) + bytes(sparse) + b"\0" * 1024
    archive.write_bytes(gzip.compress(padded))

    code, found = ask("export", "--verify", str(archive))

    assert (code, [row["file"] for row in found["rows"]]) == (1, [KEY])


def test_an_archive_file_that_was_packed_anew_in_another_order_passes(stack, ask, there, tmp_path):
    put_call(stack, "conv_1")
    ask("export", str(there), *DAY)
    with tarfile.open(tmp_path / "calls.tar.gz", "w:gz") as tarred:
        for name in (FOLDER, "records", "manifest.json"):
            tarred.add(there / name, name)

    code, found = ask("export", "--verify", str(tmp_path / "calls.tar.gz"))

    assert (code, found["title"]) == (0, "2 files, 0 with a problem")
