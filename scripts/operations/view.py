"""What a command shows: tables for people or JSON for machines on stdout, progress on stderr."""

import json
import re
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from functools import cached_property
from typing import Any, TypeVar

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from scripts.operations.stack import Stack, find_stack
from scripts.terminal import Terminal

_DIGEST = re.compile(r"[0-9a-f]{64}")
_AGO = re.compile(r"(\d+)([mhd])")
_UNITS = {"m": "minutes", "h": "hours", "d": "days"}
Item = TypeVar("Item")


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
    def progress(self) -> Terminal:
        return Terminal(stderr=True, soft_wrap=True)

    @cached_property
    def console(self) -> Terminal:
        return Terminal()

    def show(self, data: dict[str, Any], title: str, advice: str = "") -> None:
        """Show names and values; `advice` says what to do next."""
        if self.as_json:
            print(json.dumps(data | ({"next": advice} if advice else {}), indent=2, default=str))
            return
        table = Table(title=title, title_justify="left", title_style="bold", box=None, show_header=False)
        for name, value in data.items():
            table.add_row(name.replace("_", " "), shown(value))
        self.console.print(table)
        self._advise(advice)

    def table(
        self, rows: list[dict[str, Any]], columns: dict[str, str], title: str, advice: str = "", empty: str = ""
    ) -> None:
        """Show a row for each thing; `columns` gives the names that people see."""
        if self.as_json:
            print(
                json.dumps({"title": title, "rows": rows} | ({"next": advice} if advice else {}), indent=2, default=str)
            )
            return
        table = Table(title=title, title_justify="left", title_style="bold", box=None, header_style="dim")
        for name in columns.values():
            table.add_column(name, overflow="fold")
        for row in rows:
            table.add_row(*(shown(row[name]) for name in columns))
        self.console.print(table if rows else empty)
        self._advise(advice)

    def _advise(self, advice: str) -> None:
        if advice:
            self.console.print()
        for line in advice.splitlines():
            self.console.print(f"Next: {line}", soft_wrap=True)  # so that a command in it can be copied

    def bar(self) -> Progress:
        """A progress bar on stderr, for work whose length is known."""
        columns = (
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
        )
        return Progress(*columns, console=self.progress, transient=not self.progress.is_terminal)

    def each(self, items: Sequence[Item], act: Callable[[Item], None], per_second: float, doing: str) -> None:
        """Act on each, at most so many in a second. Ctrl-C waits for the one at hand."""
        with self.bar() as bar:
            for item in bar.track(items, description=doing):
                with undisturbed():
                    act(item)
                time.sleep(1 / per_second)


@contextmanager
def undisturbed() -> Iterator[None]:
    """Ctrl-C takes effect at the end of the block; a second one at once."""
    pressed = False

    def note(*_: Any) -> None:
        nonlocal pressed
        pressed = True
        signal.signal(signal.SIGINT, before)

    before = signal.signal(signal.SIGINT, note)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
    if pressed:
        raise KeyboardInterrupt


def shown(value: Any) -> str:
    """A value as people read it: times in UTC to the second, lists in a line."""
    if isinstance(value, datetime):
        return value.astimezone(timezone.utc).strftime("%Y-%m-%d %H:%M:%SZ")
    if isinstance(value, list):
        return ", ".join(map(shown, value)) or "-"
    if isinstance(value, dict):
        return ", ".join(f"{name} {shown(each)}" for name, each in value.items())
    if isinstance(value, str) and _DIGEST.fullmatch(value):
        return f"{value[:12]}…"
    return "-" if value in (None, "") else str(value)


def moment(text: str) -> datetime:
    """A time in UTC: 2026-11-22, 2026-11-22T10:00 (UTC, if it names no other zone), or how long ago: 90m, 36h, 7d."""
    ago = _AGO.fullmatch(text)
    try:
        if ago:
            return datetime.now(timezone.utc) - timedelta(**{_UNITS[ago[2]]: int(ago[1])})
        read = datetime.fromisoformat(text)
        return read.astimezone(timezone.utc) if read.tzinfo else read.replace(tzinfo=timezone.utc)
    except (ValueError, OverflowError):
        raise typer.BadParameter(
            f"{text!r} is no time: write 2026-11-22, 2026-11-22T10:00, or 36h for hours ago."
        ) from None
