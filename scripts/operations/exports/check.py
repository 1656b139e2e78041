"""Compares an export, a folder or an archive file from anyone, with its manifest.

The memory that this takes depends on the size of the archive file, not on what the file claims.
"""

import gzip
import hashlib
import json
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from scripts.aws_session import OpsError
from scripts.operations.exports.folder import MANIFEST, files_in, is_ours, name_of
from shared.bucket import PIECE

MANIFEST_BYTES = 1 << 24  # a manifest may always be this long: about 40,000 files
HEADER_BYTES = 1 << 20  # of headers between two files of an archive file, at most
NAME_LENGTH = 300  # characters of a name that are shown
SURPLUS = 1000  # files that are not in the manifest: after so many the check ends
_BROKEN = (zipfile.BadZipFile, tarfile.TarError, gzip.BadGzipFile, zlib.error, EOFError, ValueError, RuntimeError)
Expected = dict[str, tuple[int, str]]  # size and SHA-256 of each file


@dataclass(frozen=True)
class Checked:
    """The result of a check: `problems` are files and sentences; `missing` files could not be exported."""

    files: int
    missing: int
    problems: list[tuple[str, str]]


def check(path: Path, ways_out: str) -> Checked:
    """Raises OpsError if there is no manifest; `ways_out` ends the sentence about a damaged archive file."""
    try:
        expected, missing = _read_manifest(path, ways_out)
        problems = _compare(path, expected)
    except OSError as error:
        raise OpsError(f"{path} could not be read ({error.strerror}).", code=1) from None
    return Checked(len(expected), missing, problems)


def _read_manifest(path: Path, ways_out: str) -> tuple[Expected, int]:
    """The files that the manifest names, and how many could not be exported. Raises OpsError."""
    why = "the export is not complete, or this is not an export. To complete it, run the export command again."
    try:
        for name, size, file in _contents(path):
            if name == MANIFEST and file:
                return _parse(file.read(size) if size <= _largest_manifest(path) else b"", path)
    except _BROKEN:
        why = f"it is damaged, or not an archive file. {ways_out}"
    raise OpsError(f"{path} has no {MANIFEST}: {why}", code=1)


def _largest_manifest(path: Path) -> int:
    """A manifest is smaller than what it is about. A file may claim a size that it does not take on the disk."""
    on_disk = (path / MANIFEST if path.is_dir() else path).stat().st_blocks * 512
    return max(MANIFEST_BYTES, on_disk)


def _parse(body: bytes, path: Path) -> tuple[Expected, int]:
    """Raises OpsError."""
    try:
        manifest = json.loads(body)
        expected = {str(file["key"]): (int(file["size"]), str(file["sha256"])) for file in manifest["files"]}
        return expected, len(manifest.get("unavailable", ())) + len(manifest.get("missing", ()))
    except (ValueError, TypeError, KeyError, AttributeError, OverflowError, RecursionError):
        raise OpsError(f"The {MANIFEST} of {path} cannot be read: it is damaged, or not from an export.", 1) from None


def _compare(path: Path, expected: Expected) -> list[tuple[str, str]]:
    """The differences from the manifest, as file and sentence."""
    wrong = [(name, "an export has no file of this name") for name in expected if not is_ours(name)]
    surplus: list[tuple[str, str]] = []
    seen: set[str] = set()
    try:
        for name, _, file in _contents(path):
            if name in expected and name not in seen:
                wrong += [(name, problem)] if (problem := _difference(file, *expected[name])) else []
            elif name in seen or name != MANIFEST:
                why = "it is there twice" if name in seen else "it is not in the manifest"
                surplus.append((name[:NAME_LENGTH], why))
            if name in expected or name == MANIFEST:
                seen.add(name)
            if len(surplus) == SURPLUS:
                return [*wrong, *surplus, (path.name, f"it has {SURPLUS} such files: the rest was not checked")]
    except _BROKEN:
        return [(path.name, "the archive file is damaged"), *wrong, *surplus]
    return wrong + [(name, "it is missing") for name in expected if name not in seen] + surplus


def _difference(file: BinaryIO | None, size: int, sha256: str) -> str:
    """What is wrong with a file; empty if nothing is. No more than its expected size is read."""
    if file is None:
        return "it is a link"
    read, digest = 0, hashlib.sha256()
    while piece := file.read(PIECE):
        read += len(piece)
        digest.update(piece)
        if read > size:
            return f"it has more than {size} bytes"
    if read != size:
        return f"it has {read} bytes instead of {size}"
    return "" if digest.hexdigest() == sha256 else "its content has changed"


def _contents(path: Path) -> Iterator[tuple[str, int, BinaryIO | None]]:
    """Names, sizes and contents of the files in a folder or an archive file. A link has no content."""
    if path.is_dir():
        yield from _folder_contents(path)
    elif path.name.endswith(".zip"):
        yield from _zip_contents(path)
    else:
        yield from _tar_contents(path)


def _folder_contents(path: Path) -> Iterator[tuple[str, int, BinaryIO | None]]:
    for each in files_in(path):
        if each.is_symlink():
            yield name_of(each, path), 0, None
        else:
            with each.open("rb") as file:
                yield name_of(each, path), each.stat().st_size, file


def _zip_contents(path: Path) -> Iterator[tuple[str, int, BinaryIO | None]]:
    with zipfile.ZipFile(path) as zipped:
        for info in zipped.infolist():
            if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                raise zipfile.BadZipFile("an export is not compressed like this")
            if not info.is_dir():
                with zipped.open(info) as member:  # which gives no more bytes than the entry claims
                    yield info.filename, info.file_size, member  # type: ignore[misc]


def _tar_contents(path: Path) -> Iterator[tuple[str, int, BinaryIO | None]]:
    with gzip.open(path) as unzipped:
        rationed = _Rationed(unzipped)
        with tarfile.open(fileobj=rationed, mode="r:") as tarred:  # type: ignore[call-overload]
            while info := tarred.next():
                rationed.left = info.size
                if not info.isdir():
                    is_plain = info.isreg() and not info.issparse()  # a sparse file claims more than it holds
                    yield info.name, info.size, tarred.extractfile(info) if is_plain else None
                tarred.members.clear()  # tarfile keeps all of them
                tarred.pax_headers.clear()
                rationed.left = HEADER_BYTES


class _Rationed:
    """A file that gives no more bytes than `left`: tarfile believes every length that a header claims."""

    def __init__(self, file: gzip.GzipFile) -> None:
        self._file, self.left = file, HEADER_BYTES
        self.seek, self.tell = file.seek, file.tell

    def read(self, size: int) -> bytes:
        """Raises ReadError."""
        if not 0 <= size <= self.left:
            raise tarfile.ReadError("a header is too long")
        self.left -= size
        return self._file.read(size)
