"""What a command shows: text for people or JSON for machines on stdout, progress on stderr."""

import json
import re
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from functools import cached_property
from textwrap import wrap
from typing import Any, TypeVar

import typer
from rich.cells import cell_len
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from scripts.aws_session import STACK_NAME
from scripts.operations.stack import Stack, find_stack
from scripts.terminal import Terminal, plain
from shared.times import utc

_DIGEST = re.compile(r"[0-9a-f]{64}")
_AGO = re.compile(r"(\d+)([mhd])")
_UNITS = {"m": "minutes", "h": "hours", "d": "days"}
INTERRUPTED = 130  # the exit code
WITH_YES = "Run the same command with --yes."
TIMES = "2026-11-22, 2026-11-22T10:00, or 90m, 36h, 7d ago"
# A command at the end of a line. Only in its quotes may be a colon.
_WORDS = r'[a-z](?:"[^"\n]*"|[^:;"\n])*'
_MAKE = r'(?:[A-Z]+="[^"\n]*" )?make'
_COMMAND = re.compile(rf"(?:(?<=: )|^)(?:(?:\./scripts/)?ops|aws|{_MAKE}) {_WORDS}$")
_SHORT = re.compile(rf"(?:(?<=: )|^)ops ({_WORDS})$", re.MULTILINE)
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

    def command(self, words: str) -> str:
        """The command as it can be copied, for the stack that this one worked on."""
        where = "--local" if self.local else f"--stack {self.stack.name}" if self.stack.name != STACK_NAME else ""
        return f"./scripts/ops {words} {where}".strip()

    def complete(self, advice: str) -> str:
        """Advice whose commands, each written as `ops ...` at the end of its line, can be copied."""
        return _SHORT.sub(lambda found: self.command(found[1]), advice)

    def print_json(self, data: Any) -> None:
        print(json.dumps(data, indent=2, default=for_machines))

    def show(self, data: dict[str, Any], title: str, advice: str = "") -> None:
        """Show names and values; `advice` says what to do next."""
        if self.as_json:
            self.print_json(data | self._next(advice))
            return
        self.console.print(title, style="bold", soft_wrap=True)
        self._pairs({name.replace("_", " "): value for name, value in data.items()})
        self._advise(advice)

    def table(
        self, rows: list[dict[str, Any]], columns: dict[str, str], title: str, advice: str = "", empty: str = ""
    ) -> None:
        """Show a row for each thing; `columns` gives the names that people see.

        Columns that do not fit the screen stand below their row, so that nothing is broken that may be copied.
        """
        if self.as_json:
            self.print_json({"title": title, "rows": rows} | self._next(advice))
            return
        self.console.print(title if rows else empty, style="bold" if rows else "", soft_wrap=True)
        if rows:
            self._rows(rows, columns)
        self._advise(advice)

    def _rows(self, rows: list[dict[str, Any]], columns: dict[str, str]) -> None:
        widths = fitting(rows, columns, self.console.width)
        self._line([columns[name] for name in widths], list(widths.values()), style="dim")
        for row in rows:
            self._line([shown(row[name]) for name in widths], list(widths.values()))
            below = {columns[name]: row[name] for name in columns if name not in widths}
            self._pairs({name: value for name, value in below.items() if shown(value) != "-"}, indent="  ")

    def _line(self, cells: list[str], widths: list[int], style: str = "") -> None:
        padded = [cell + " " * (width - cell_len(plain(cell))) for cell, width in zip(cells, widths, strict=True)]
        self.console.print("  ".join(padded).rstrip(), style=style, soft_wrap=True)

    def _pairs(self, pairs: dict[str, Any], indent: str = "") -> None:
        """Each name with its value beside it; the items of a list below each other."""
        width = max(map(len, pairs), default=0)
        for name, value in pairs.items():
            lines = value if isinstance(value, list) and value else [value]
            for number, line in enumerate(lines):
                self.paragraph(shown(line), first=f"{indent}{name if number == 0 else '':{width}}  ")

    def paragraph(self, text: str, first: str = "", style: str = "") -> None:
        """Text in lines that fit the screen, after `first`. No word is broken; a command at its end has a line."""
        further = " " * len(first)
        sentence, command = split_command(plain(text))
        if sentence or not command:
            for line in wrap(sentence, self.console.width, initial_indent=first, subsequent_indent=further,
                             break_long_words=False, break_on_hyphens=False) or [first.rstrip()]:  # fmt: skip
                self.console.print(line, style=style, soft_wrap=True)
            first = further
        if command:
            self.console.print(f"{first}{command}", soft_wrap=True)

    def _next(self, advice: str) -> dict[str, str]:
        return {"next": self.complete(advice)} if advice else {}

    def _advise(self, advice: str) -> None:
        """Each advice, and its command on a line of its own, which is not folded: so it can be copied."""
        if advice:
            self.console.print()
        for line in self.complete(advice).splitlines():
            sentence, command = split_command(plain(line))
            self.console.print(f"Next: {sentence}".rstrip(), soft_wrap=True)
            if command:
                self.console.print(f"      {command}", soft_wrap=True)

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
                with delay_ctrl_c():
                    act(item)
                time.sleep(1 / per_second)


@contextmanager
def delay_ctrl_c() -> Iterator[None]:
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


def fitting(rows: list[dict[str, Any]], columns: dict[str, str], width: int) -> dict[str, int]:
    """The columns that fit beside each other, with their widths. The widest goes first, of equal ones the last."""
    widths = {
        name: max(cell_len(plain(text)) for text in (title, *(shown(row[name]) for row in rows)))
        for name, title in columns.items()
    }
    first, *_ = columns
    while len(widths) > 1 and sum(widths.values()) + 2 * (len(widths) - 1) > width:
        del widths[max((name for name in reversed(widths) if name != first), key=lambda name: widths[name])]
    return widths


def split_command(text: str) -> tuple[str, str]:
    """A sentence, and the command at its end if there is one."""
    found = _COMMAND.search(text)
    return (text[: found.start()].rstrip(), found[0].strip()) if found else (text, "")


def several(number: int, one: str, many: str) -> str:
    return f"{number} {one if number == 1 else many}"


def shown(value: Any) -> str:
    """A value as people read it: times in UTC to the second, lists in a line."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, datetime):
        return utc(value)
    if isinstance(value, list):
        return ", ".join(map(shown, value)) or "-"
    if isinstance(value, dict):
        return ", ".join(f"{name} {shown(each)}" for name, each in value.items()) or "-"
    if isinstance(value, str) and _DIGEST.fullmatch(value):
        return f"{value[:12]}…"
    return "-" if value in (None, "") else str(value)


def for_machines(value: Any) -> Any:
    """What JSON has no type for: a time as ISO 8601 in UTC, anything else as text."""
    return utc(value) if isinstance(value, datetime) else str(value)


def parse_time(text: str) -> datetime:
    """A time in UTC: 2026-11-22, 2026-11-22T10:00 (UTC, if it names no other zone), or how long ago: 90m, 36h, 7d."""
    ago = _AGO.fullmatch(text)
    try:
        if ago:
            return datetime.now(timezone.utc) - timedelta(**{_UNITS[ago[2]]: int(ago[1])})
        read = datetime.fromisoformat(text)
        return read.astimezone(timezone.utc) if read.tzinfo else read.replace(tzinfo=timezone.utc)
    except (ValueError, OverflowError):
        raise typer.BadParameter(f"{text!r} is not a time: write {TIMES}.") from None
