"""An export on the operator's disk: a folder that can be gone on with, and the archive file made of it.

`.export` in it holds the journal of what is there, the lock, and what is being written. The rest is the export.
"""

import gzip
import hashlib
import json
import os
import re
import shutil
import tarfile
import tempfile
import threading
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, BinaryIO

from filelock import FileLock, Timeout

from scripts.aws_session import OpsError
from shared.bucket import PIECE
from shared.keys import NO_PHONE

MANIFEST = "manifest.json"
OWN = ".export"
JOURNAL = "journal.jsonl"
RECORDS = "records"
VERSION = 1
ARCHIVES = (".zip", ".tar.gz")
_OURS = re.compile(rf"([0-9]{{7,15}}|{NO_PHONE}|{RECORDS})/[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)?\.(json|mp3)")
_BROKEN = (zipfile.BadZipFile, tarfile.TarError, gzip.BadGzipFile, zlib.error, EOFError, ValueError, RuntimeError)


@dataclass(frozen=True)
class File:
    """A file of an export, by its name; the rest from `etag` on is only known of objects of the bucket."""

    key: str
    conversation_id: str
    size: int
    sha256: str
    etag: str | None = None
    version_id: str | None = None
    last_modified: str | None = None
    content_encoding: str | None = None

    def to_dict(self) -> dict[str, Any]:
        return {name: value for name, value in asdict(self).items() if value is not None}


def is_ours(key: str) -> bool:
    """Whether an export may hold a file of this name: nothing that leads out of its folder."""
    return _OURS.fullmatch(key) is not None


class Folder:
    """An export in the making. A file under its name is whole; what the journal knows need not be fetched again."""

    def __init__(self, path: Path) -> None:
        self.path, self.own = path, path / OWN
        self.files: dict[str, File] = {}
        self._journal, self._turn = self.own / JOURNAL, threading.Lock()
        self.header, self._before = _read_journal(self._journal)

    def begin(self, header: dict[str, Any]) -> None:
        """From here on the export is not complete. Half-written files of a run that was killed go."""
        (self.path / MANIFEST).unlink(missing_ok=True)
        for left in self.own.glob("tmp*"):
            left.unlink()
        lines = [header, *(file.to_dict() for file in self._before.values())]
        self._replace(self._journal, (f"{json.dumps(line)}\n".encode() for line in lines))

    def known(self, key: str, **values: Any) -> File | None:
        """The file as an earlier run left it, if it is what `values` say, and still there."""
        file = self._before.get(key)
        if file is None or any(getattr(file, name) != value for name, value in values.items()):
            return None
        path = self.path / key
        return file if path.is_file() and path.stat().st_size == file.size else None

    def write(self, key: str, pieces: Iterable[bytes]) -> tuple[int, str]:
        """Write a file piece by piece; returns its size and SHA-256."""
        (self.path / key).parent.mkdir(exist_ok=True)
        return self._replace(self.path / key, pieces)

    def add(self, file: File) -> None:
        """Note that a file is there."""
        with self._turn:
            if self._before.get(file.key) != file:
                with self._journal.open("a") as journal:
                    journal.write(f"{json.dumps(file.to_dict())}\n")
            self.files[file.key] = file

    def finish(self, manifest: dict[str, Any]) -> None:
        """Remove what an earlier run left and this one did not find, and say that the export is complete."""
        for name in filter(is_ours, {_name(each, self.path) for each in _files(self.path)} - self.files.keys()):
            (self.path / name).unlink()
        for folder in [each for each in self.path.iterdir() if each.is_dir() and each != self.own]:
            with suppress(OSError):  # not empty
                folder.rmdir()
        files = [self.files[key].to_dict() for key in sorted(self.files)]
        os.sync()  # a manifest must not outlive a power cut that its files did not
        self._replace(self.path / MANIFEST, [json.dumps(manifest | {"files": files}, indent=1).encode()])

    def _replace(self, path: Path, pieces: Iterable[bytes]) -> tuple[int, str]:
        size, digest = 0, hashlib.sha256()
        with ExitStack() as on_failure:
            with tempfile.NamedTemporaryFile(dir=self.own, delete=False) as file:  # which only its owner may read
                on_failure.callback(Path(file.name).unlink)
                for piece in pieces:
                    file.write(piece)
                    digest.update(piece)
                    size += len(piece)
            Path(file.name).replace(path)
            on_failure.pop_all()
        return size, digest.hexdigest()


@contextmanager
def open_folder(path: Path) -> Iterator[Folder]:
    """The folder, ours alone until the block ends. Raises OpsError, also for whatever the disk refuses meanwhile."""
    if path.exists() and not path.is_dir():
        raise OpsError(f"{path} is a file: name a folder, or a file that ends in .zip or .tar.gz.")
    try:
        others = {each.name for each in path.iterdir()} - {OWN} if path.is_dir() else set()
        if others and not _read_journal(path / OWN / JOURNAL)[0]:
            raise OpsError(f"{path} holds something else: name a new or an empty folder.")
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        (path / OWN).mkdir(exist_ok=True)
        with FileLock(path / OWN / "lock").acquire(timeout=0):
            yield Folder(path)
    except Timeout:
        raise OpsError(f"Another export to {path} is under way.", code=1) from None
    except OSError as error:
        why = error.strerror or type(error).__name__
        raise OpsError(
            f"{path} could not be written ({why}). What is there stays: the same command goes on from it.", code=1
        ) from None


def pack(folder: Folder, archive: Path, track: Callable[[list[str]], Iterable[str]]) -> None:
    """Make the archive file of a complete folder. Under its name it is whole."""
    part = folder.own / "tmp-archive"
    part.touch(mode=0o600)
    names = track([MANIFEST, *sorted(folder.files)])
    if archive.name.endswith(".zip"):
        with zipfile.ZipFile(part, "w") as zipped:
            for name in names:
                method = zipfile.ZIP_STORED if name.endswith(".mp3") else zipfile.ZIP_DEFLATED
                zipped.write(folder.path / name, name, method)
    else:
        with tarfile.open(part, "w:gz") as tarred:
            for name in names:
                tarred.add(folder.path / name, name, recursive=False)
    os.sync()
    part.replace(archive)


def remove(folder: Folder) -> None:
    """Remove the parts of an archive, the journal last: a run after one that was killed here finds its way by it."""
    for path in folder.path.iterdir():
        if path.name != OWN:
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    shutil.rmtree(folder.path)


def check(path: Path) -> tuple[dict[str, Any], list[tuple[str, str]]]:
    """The manifest of an export, and whatever is not as it says: file and sentence. Raises OpsError without one."""
    found: dict[str, tuple[int, str]] = {}
    manifest: dict[str, Any] | None = None
    damaged = False
    try:
        for name, file in _contents(path):
            if name == MANIFEST:
                manifest = _read_manifest(file.read(), path)
            else:
                found[name] = _measure(file)
    except _BROKEN:
        damaged = True
    except OSError as error:
        raise OpsError(f"{path} could not be read ({error.strerror}).", code=1) from None
    if manifest is None:
        why = "it is damaged, or no archive file" if damaged else "the export is not complete, or it is none"
        raise OpsError(f"{path} has no {MANIFEST}: {why}. The command that made it makes it whole.", code=1)
    problems = [(path.name, "the archive file is damaged")] if damaged else []
    expected = {file["key"]: (file["size"], file["sha256"]) for file in manifest["files"]}
    wrong = [key for key, measure in expected.items() if found.get(key) != measure and (key in found or not damaged)]
    problems += [(key, _difference(found.get(key), expected[key])) for key in wrong]
    return manifest, problems + [(name, "the manifest does not know it") for name in found if name not in expected]


def _difference(found: tuple[int, str] | None, expected: tuple[int, str]) -> str:
    if found is None:
        return "it is missing"
    if found[0] != expected[0]:
        return f"it has {found[0]} bytes instead of {expected[0]}"
    return "its content has changed"


def _read_manifest(body: bytes, path: Path) -> dict[str, Any]:
    """Raises OpsError unless it has all that `check` looks at."""
    try:
        manifest = json.loads(body)
        [(file["key"], file["size"], file["sha256"]) for file in manifest["files"]]
        return {"unavailable": [], "missing": []} | dict(manifest)
    except (ValueError, TypeError, KeyError):
        raise OpsError(f"The {MANIFEST} of {path} cannot be read: it is damaged, or not of an export.", 1) from None


def _measure(file: BinaryIO) -> tuple[int, str]:
    size, digest = 0, hashlib.sha256()
    while piece := file.read(PIECE):
        size += len(piece)
        digest.update(piece)
    return size, digest.hexdigest()


def _contents(path: Path) -> Iterator[tuple[str, BinaryIO]]:
    """The names and contents of an export, be it a folder or an archive file."""
    if path.is_dir():
        for each in _files(path):
            with each.open("rb") as file:
                yield _name(each, path), file
    elif path.name.endswith(".zip"):
        with zipfile.ZipFile(path) as zipped:
            for name in zipped.namelist():
                with zipped.open(name) as member:
                    yield name, member  # type: ignore[misc]
    else:
        with tarfile.open(path, "r|gz") as tarred:
            for info in tarred:
                if extracted := tarred.extractfile(info):
                    yield info.name, extracted  # type: ignore[misc]


def _files(path: Path) -> Iterator[Path]:
    return (each for each in path.rglob("*") if each.is_file() and not _name(each, path).startswith(f"{OWN}/"))


def _name(path: Path, folder: Path) -> str:
    return path.relative_to(folder).as_posix()


def _read_journal(journal: Path) -> tuple[dict[str, Any] | None, dict[str, File]]:
    """The header and the files; a line that a kill cut short is left out."""
    lines: list[dict[str, Any]] = []
    with suppress(FileNotFoundError):
        for line in journal.read_bytes().splitlines():
            with suppress(ValueError):
                lines.append(json.loads(line))
    header = lines[0] if lines and "asked" in lines[0] else None
    return header, {line["key"]: File(**line) for line in lines[1:]} if header else {}
