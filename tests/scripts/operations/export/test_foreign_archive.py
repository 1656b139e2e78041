"""The check of archive files that somebody else made."""

import gzip
import json
import shutil
import tarfile
import tracemalloc
import warnings
import zipfile
from collections.abc import Callable, Iterable, Iterator
from hashlib import sha256
from pathlib import Path

import pytest

from tests.scripts.operations.export.conftest import (
    DAY,
    FOLDER,
    header,
    put_call,
)

MEGABYTE = 1 << 20


Member = tuple[str, int, bytes]  # name, size, and a piece that is repeated


class Repeated:
    """A file that is too large for the memory."""

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
    """The peak of memory since the test began, in megabytes."""
    tracemalloc.start()
    yield lambda: tracemalloc.get_traced_memory()[1] / MEGABYTE
    tracemalloc.stop()


KEY = "records/conv_1.json"


@pytest.mark.parametrize("name", ["calls.zip", "calls.tar.gz"])
def test_a_manifest_that_is_larger_than_its_archive_is_not_read(run_ops, tmp_path, peak, name):
    craft(tmp_path / name, [("manifest.json", 100 * MEGABYTE, b" ")])

    code, _, said = run_ops("export", "--verify", str(tmp_path / name))

    assert code == 1
    assert said == f"The manifest.json of {tmp_path / name} cannot be read: it is damaged, or not from an export.\n"
    assert peak() < 50


def test_a_manifest_with_holes_is_not_read(run_ops, destination, peak):
    destination.mkdir()
    with (destination / "manifest.json").open("wb") as file:
        file.truncate(100 * MEGABYTE)

    code, _, said = run_ops("export", "--verify", str(destination))

    assert (code, said) == (
        1,
        f"The manifest.json of {destination} cannot be read: it is damaged, or not from an export.\n",
    )
    assert peak() < 50


@pytest.mark.parametrize("name", ["calls.zip", "calls.tar.gz"])
def test_a_file_is_read_no_further_than_the_manifest_says(run_ops_json, tmp_path, peak, name):
    craft_export(tmp_path / name, KEY, 100 * MEGABYTE)

    code, found = run_ops_json("export", "--verify", str(tmp_path / name))

    assert (code, found["rows"]) == (1, [{"file": KEY, "problem": "it has more than 4 bytes"}])
    assert peak() < 50


@pytest.mark.parametrize("name", ["calls.zip", "calls.tar.gz"])
def test_the_check_ends_after_many_unknown_names(run_ops_json, tmp_path, peak, name):
    names = ("x" * 9 + str(number) for number in range(3_000))
    craft_export(tmp_path / name, KEY, 4, *((each, 0, b"1") for each in names))

    code, found = run_ops_json("export", "--verify", str(tmp_path / name))

    assert (code, len(found["rows"])) == (1, 1001)
    assert found["rows"][0] == {"file": "xxxxxxxxx0", "problem": "it is not in the manifest"}
    assert found["rows"][-1] == {"file": name, "problem": "it has 1000 such files: the rest was not checked"}
    assert peak() < 50


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
def test_a_header_that_claims_too_much_is_reported_as_damage(run_ops, tmp_path, peak, start, piece, size):
    archive = tmp_path / "calls.tar.gz"
    with gzip.open(archive, "wb", compresslevel=1) as zipped:
        zipped.write(start)
        shutil.copyfileobj(Repeated(size, piece), zipped)

    code, _, said = run_ops("export", "--verify", str(archive))

    assert (code, "it is damaged, or not an archive file" in said) == (1, True)
    assert peak() < 50


@pytest.mark.parametrize("name", ["calls.zip", "calls.tar.gz"])
def test_a_name_that_comes_twice_or_leads_elsewhere_does_not_pass(run_ops_json, tmp_path, name):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # zipfile's, about names that come twice
        craft_export(tmp_path / name, KEY, 4, (KEY, 4, b"4321"))
        craft_export(tmp_path / f"out-{name}", "../conv_1.json", 4)

    twice, out = (run_ops_json("export", "--verify", str(tmp_path / each)) for each in (name, f"out-{name}"))

    assert [(code, found["rows"]) for code, found in (twice, out)] == [
        (1, [{"file": KEY, "problem": "it is there twice"}]),
        (1, [{"file": "../conv_1.json", "problem": "an export has no file of this name"}]),
    ]


def test_a_link_in_an_archive_file_does_not_pass(run_ops_json, tmp_path):
    craft_export(tmp_path / "calls.tar.gz", KEY, 4)
    with gzip.open(tmp_path / "calls.tar.gz") as zipped:
        plain = zipped.read().rstrip(b"\0")
    link = tarfile.TarInfo("records")
    link.type, link.linkname = tarfile.SYMTYPE, "/etc"
    padded = plain + b"\0" * (-len(plain) % 512) + link.tobuf() + b"\0" * 1024
    (tmp_path / "calls.tar.gz").write_bytes(gzip.compress(padded))

    code, found = run_ops_json("export", "--verify", str(tmp_path / "calls.tar.gz"))

    assert (code, found["rows"]) == (1, [{"file": "records", "problem": "it is not in the manifest"}])


def test_a_file_that_claims_more_than_it_holds_is_not_read(run_ops_json, tmp_path):
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

    code, found = run_ops_json("export", "--verify", str(archive))

    assert (code, [row["file"] for row in found["rows"]]) == (1, [KEY])


def test_an_archive_file_that_was_packed_again_in_another_order_passes(stack, run_ops_json, destination, tmp_path):
    put_call(stack, "conv_1")
    run_ops_json("export", str(destination), *DAY)
    with tarfile.open(tmp_path / "calls.tar.gz", "w:gz") as tarred:
        for name in (FOLDER, "records", "manifest.json"):
            tarred.add(destination / name, name)

    code, found = run_ops_json("export", "--verify", str(tmp_path / "calls.tar.gz"))

    assert (code, found["title"]) == (0, "2 files, 0 with a problem")
