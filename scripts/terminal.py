"""A terminal that is safe for text from others: callers, their agents, AWS, names of files."""

import unicodedata
from collections.abc import Iterable
from typing import Any, TextIO

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment
from rich.text import Text

_OBEYED = ("Cc", "Cf", "Cs", "Zl", "Zp")  # control codes, text direction, half surrogates, line ends


def plain(text: str, keep: str = "") -> str:
    """The text with an escape such as \\x1b for each character that a terminal obeys, except those in `keep`."""
    return "".join(
        each if each in keep or unicodedata.category(each) not in _OBEYED else each.encode("unicode_escape").decode()
        for each in text
    )


class Terminal(Console):
    """A console that prints each string as one plain line: no markup, and only styles add colour."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**{"markup": False, "highlight": False, "emoji": False} | options)

    def render_str(self, text: str, **options: Any) -> Text:
        return super().render_str(plain(text), **options)

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """Everything that is printed passes here, progress too."""
        for segment in super().render(renderable, options):
            yield segment if segment.control else Segment(plain(segment.text, keep="\n"), segment.style)


class PlainStream:
    """A stream for lines of a logger. They may contain text from others."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> None:
        self._stream.write(plain(text, keep="\n"))

    def flush(self) -> None:
        self._stream.flush()
