"""A terminal for text that others wrote: callers, their agents, AWS, names of files."""

import unicodedata
from collections.abc import Iterable
from typing import Any, TextIO

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment
from rich.text import Text

_OBEYED = ("Cc", "Cf", "Cs", "Zl", "Zp")  # control codes, the direction of text, half surrogates, ends of lines


def plain(text: str, keep: str = "") -> str:
    """The text with an escape such as \\x1b for whatever a terminal obeys instead of showing it, but for `keep`."""
    return "".join(
        each if each in keep or unicodedata.category(each) not in _OBEYED else each.encode("unicode_escape").decode()
        for each in text
    )


class Terminal(Console):
    """A console that takes no string for markup, and prints each as one plain line. Only styles colour it."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**{"markup": False, "highlight": False, "emoji": False} | options)

    def render_str(self, text: str, **options: Any) -> Text:
        return super().render_str(plain(text), **options)

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """All that is printed comes through here, progress too."""
        for segment in super().render(renderable, options):
            yield segment if segment.control else Segment(plain(segment.text, keep="\n"), segment.style)


class PlainStream:
    """A stream for lines of a logger, which others may have written parts of."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> None:
        self._stream.write(plain(text, keep="\n"))

    def flush(self) -> None:
        self._stream.flush()
