"""An export on the operator's disk: a folder that a later run can continue, and the archive file made from it.

`.export` in it holds the journal of the files, the lock, and files that are being written. The rest is the export.
"""

import hashlib
import json
import os
import re
import shutil
import stat
import tarfile
import tempfile
import threading
import zipfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from scripts.aws_session import OpsError
from scripts.operations.tables.files import FORMATS
from scripts.operations.tables.rows import TABLES
from scripts.private_files import make_private_folder
from shared.keys import NO_PHONE

MANIFEST = "manifest.json"
OWN = ".export"
JOURNAL = "journal.jsonl"
RECORDS = "records"
VERSION = 1
ARCHIVES = (".zip", ".tar.gz")
_OURS = re.compile(
    rf"([0-9]{{7,15}}|{NO_PHONE}|{RECORDS})/[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)?\.(json|mp3|vtt)"
    rf"|(?P<table>{'|'.join(TABLES)})/day=[0-9]{{4}}-[0-9]{{2}}-[0-9]{{2}}/(?P=table)\.({'|'.join(FORMATS)})"
)


@dataclass(frozen=True)
class File:
    """A file of an export. Only objects of the bucket have the fields from `etag` on.

    A file of a table has no single conversation, but `rows`, and the state of its day as `source`.
    """

    key: str
    conversation_id: str | None
    size: int
    sha256: str
    etag: str | None = None
    version_id: str | None = None
    last_modified: str | None = None
    content_encoding: str | None = None
    rows: int | None = None
    source: str | None = None

    def to_dict(self) -> dict[str, Any]:
        return {name: value for name, value in asdict(self).items() if value is not None}


def is_ours(key: str) -> bool:
    """Whether an export may hold a file of this name: no name that leads out of its folder."""
    return _OURS.fullmatch(key) is not None


class NameRefusedError(Exception):
    """An export may not hold a file of this name: it might lead out of the folder."""


class Folder:
    """An unfinished export. A file under its name is complete; a file in the journal is not fetched again."""

    def __init__(self, path: Path) -> None:
        self.path, self.own = path, path / OWN
        self.files: dict[str, File] = {}
        self._journal, self._turn = self.own / JOURNAL, threading.Lock()
        self.header, self._before = _read_journal(self._journal)

    def begin(self, header: dict[str, Any]) -> None:
        """Mark the export as not complete, and remove the partial files of a run that was killed."""
        (self.path / MANIFEST).unlink(missing_ok=True)
        for partial in self.own.glob("tmp*"):
            partial.unlink()
        lines = [header, *(file.to_dict() for file in self._before.values())]
        self._replace(self._journal, (f"{json.dumps(line)}\n".encode() for line in lines))

    def known(self, key: str, **values: Any) -> File | None:
        """The file of an earlier run, if it has these `values` and is still there."""
        file = self._before.get(key)
        if file is None or any(getattr(file, name) != value for name, value in values.items()):
            return None
        with suppress(FileNotFoundError, NotADirectoryError):
            there = (self.path / key).lstat()
            return file if stat.S_ISREG(there.st_mode) and there.st_size == file.size else None
        return None

    def write(self, key: str, pieces: Iterable[bytes]) -> tuple[int, str]:
        """Write a file piece by piece; returns its size and SHA-256. Raises NameRefusedError."""
        if not is_ours(key):
            raise NameRefusedError(key)
        make_private_folder((self.path / key).parent)
        return self._replace(self.path / key, pieces)

    def add(self, file: File) -> None:
        """Note in the journal that a file is there."""
        with self._turn:
            if self._before.get(file.key) != file:
                with self._journal.open("a") as journal:
                    journal.write(f"{json.dumps(file.to_dict())}\n")
            self.files[file.key] = file

    def finish(self, manifest: dict[str, Any]) -> None:
        """Remove files that this run did not find, and write the manifest: the export is complete."""
        for name in filter(is_ours, {name_of(each, self.path) for each in files_in(self.path)} - self.files.keys()):
            (self.path / name).unlink()
        folders = [
            each for each in (*self.path.glob("*/*"), *self.path.iterdir()) if each.is_dir() and each != self.own
        ]
        for folder in folders:
            with suppress(OSError):  # not empty
                folder.rmdir()
        files = [self.files[key].to_dict() for key in sorted(self.files)]
        os.sync()  # after a power cut there must be no manifest without its files
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
    """The folder, locked until the block ends. Raises OpsError, also for errors of the disk in the block."""
    if path.exists() and not path.is_dir():
        raise OpsError(f"{path} is a file. Name a folder, or a file that ends in .zip or .tar.gz.")
    try:
        _refuse_others(path)
        make_private_folder(path / OWN)
        with suppress(PermissionError):  # somebody else's folder, or a disk without file modes
            path.chmod(0o700)
        with FileLock(path / OWN / "lock", mode=0o600).acquire(timeout=0):
            yield Folder(path)
    except Timeout:
        raise OpsError(f"Another export to {path} is running.", code=1) from None
    except OSError as error:
        why = error.strerror or type(error).__name__
        raise OpsError(
            f"{path} could not be written ({why}). The files so far stay. Run the same command again: it continues.",
            code=1,
        ) from None


def _refuse_others(path: Path) -> None:
    """Raises OpsError for a folder that is not an export, and for a link in it, which may lead out of it."""
    there = [each for folder in (path, path / OWN) if folder.is_dir() for each in folder.iterdir()]
    there += path.glob("*/day=*")  # the folders of tables
    if link := next((each for each in there if each.is_symlink()), None):
        raise OpsError(f"{link} is a link, and an export has no links. Name a new or an empty folder.")
    if any(each.parent == path and each.name != OWN for each in there) and not _read_journal(path / OWN / JOURNAL)[0]:
        raise OpsError(f"{path} has other files in it. Name a new or an empty folder.")


def pack(folder: Folder, archive: Path, track: Callable[[list[str]], Iterable[str]]) -> None:
    """Make the archive file from a complete folder. It gets its name when it is complete."""
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
    """Remove the parts of an archive file, the journal last: a run after one that was killed here needs it."""
    for path in folder.path.iterdir():
        if path.name != OWN:
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    shutil.rmtree(folder.path)


def files_in(path: Path) -> Iterator[Path]:
    """The files and links of an export, without `.export`."""
    own = f"{OWN}/"
    return (
        each for each in path.rglob("*")
        if (each.is_file() or each.is_symlink()) and not name_of(each, path).startswith(own)
    )  # fmt: skip


def name_of(path: Path, folder: Path) -> str:
    return path.relative_to(folder).as_posix()


def _read_journal(journal: Path) -> tuple[dict[str, Any] | None, dict[str, File]]:
    """The header and the files. A line that was cut off is left out, and any line that no export writes."""
    lines: list[Any] = []
    with suppress(FileNotFoundError):
        for line in journal.read_bytes().splitlines():
            with suppress(ValueError):
                lines.append(json.loads(line))
    if not lines or not _is_header(lines[0]):
        return None, {}
    files: dict[str, File] = {}
    for line in lines[1:]:
        with suppress(TypeError):
            file = File(**{"conversation_id": None} | line)
            files |= {file.key: file} if is_ours(file.key) else {}
    return lines[0], files


def _is_header(line: Any) -> bool:
    if not isinstance(line, dict) or not line.keys() >= {"version", "stack", "asked"}:
        return False
    return all(isinstance(line.get(name), str) for name in ("since", "until"))
