"""What a command shows: tables for people or JSON for machines on stdout, progress on stderr."""

import json
import re
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from functools import cached_property
from typing import Any

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from scripts.ops_stack import Stack, find_stack

_AGO = re.compile(r"(\d+)([mhd])")
_UNITS = {"m": "minutes", "h": "hours", "d": "days"}


@dataclass(frozen=True)
class View:
    """The stack that a command works on, and how it shows what came of it."""

    stack_name: str | None
    local: bool
    as_json: bool

    @cached_property
    def stack(self) -> Stack:
        return find_stack(self.stack_name, local=self.local)

    @cached_property
    def progress(self) -> Console:
        return Console(stderr=True, highlight=False, emoji=False, soft_wrap=True)

    @cached_property
    def console(self) -> Console:
        return Console(highlight=False, emoji=False)

    def show(self, data: dict[str, Any], title: str, advice: str = "") -> None:
        """Show names and values; `advice` says what to do next."""
        if self.as_json:
            print(json.dumps(data | ({"next": advice} if advice else {}), indent=2, default=str))
            return
        table = Table(title=title, title_justify="left", title_style="bold", box=None, show_header=False)
        for name, value in data.items():
            table.add_row(name.replace("_", " "), "-" if value is None else str(value))
        self.console.print(table)
        if advice:
            self.console.print(f"\nNext: {advice}", markup=False)

    def bar(self) -> Progress:
        """A progress bar on stderr, for work whose length is known."""
        columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
        return Progress(*columns, console=self.progress, transient=not self.progress.is_terminal)


def moment(text: str) -> datetime:
    """A time as 2026-11-22, 2026-11-22T10:00 (UTC, if it names no other zone), or how long ago: 90m, 36h, 7d."""
    ago = _AGO.fullmatch(text)
    if ago:
        return datetime.now(timezone.utc) - timedelta(**{_UNITS[ago[2]]: int(ago[1])})
    try:
        read = datetime.fromisoformat(text)
    except ValueError:
        raise typer.BadParameter(
            f"{text!r} is no time: write 2026-11-22, 2026-11-22T10:00, or 36h for hours ago."
        ) from None
    return read if read.tzinfo else read.replace(tzinfo=timezone.utc)
