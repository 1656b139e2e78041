"""Files and folders that hold personal data: only their owner may read them, whatever the umask."""

import os
from pathlib import Path
from typing import TextIO


def open_private(path: Path, *, anew: bool = False) -> TextIO:
    """Open a file to write it. It is not written through a link, nor, with `anew`, if it is there already."""
    instead = os.O_EXCL if anew else os.O_TRUNC
    opened = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | instead, 0o600)
    os.fchmod(opened, 0o600)  # of one that was there
    return os.fdopen(opened, "w", encoding="utf-8")


def make_private_folder(path: Path) -> None:
    """Make a folder, and those above it that are not there."""
    for each in (*reversed(path.parents), path):
        if not each.exists():
            each.mkdir(mode=0o700, exist_ok=True)
