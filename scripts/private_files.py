"""Files and folders with personal data: only their owner may read them, with any umask."""

import os
from pathlib import Path
from typing import TextIO


def open_private(path: Path, *, must_be_new: bool = False) -> TextIO:
    """Open a file to write it; never through a link. With `must_be_new`, an existing file is refused."""
    existing = os.O_EXCL if must_be_new else os.O_TRUNC
    opened = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | existing, 0o600)
    os.fchmod(opened, 0o600)  # an existing file may have another mode
    return os.fdopen(opened, "w", encoding="utf-8")


def make_private_folder(path: Path) -> None:
    """Make a folder and the missing folders above it."""
    for each in (*reversed(path.parents), path):
        if not each.exists():
            each.mkdir(mode=0o700, exist_ok=True)
