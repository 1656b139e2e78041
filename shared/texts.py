"""The rows under `text/`: a flat copy of what was said, for Athena. It can be made again from the archive at any time.

A row is a turn with words; one more row, with CALL as its turn, is the call itself, for statistics. A call may have
rows in several files, and rows of older versions: only the newest version counts.
"""

import gzip
import hashlib
import re
import unicodedata
import zlib
from collections.abc import Iterable, Iterator
from io import BytesIO
from typing import Any

import msgspec

from shared.conversation import Conversation

PREFIX = "text/"
CALL = -1  # the turn of the row that is the call itself
MOST_CHARACTERS = 200  # of a query
MOST_WORDS = 10
# Accents of Latin, Greek and Cyrillic letters; other marks belong to their letter.
_FIRST_MARK, _LAST_MARK = "\u0300", "\u036f"
# Letters of scripts that put no blanks between words: Thai and Lao, Myanmar, Khmer, Chinese.
UNSPACED_LETTERS = "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3400-\u9fff\uf900-\ufaff"
# Japanese and rare Chinese letters too. Korean has blanks, but its particles are written to the word.
_UNSPACED = re.compile(f"[{UNSPACED_LETTERS}\u3040-\u30ff\uac00-\ud7af\U00020000-\U0003ffff]")
_PHRASE = re.compile(r'"([^"]*)"?|([^"]+)')
_DAY = re.compile(r"text/day=(\d{4}-\d{2}-\d{2})/[0-9a-f]{64}\.jsonl\.gz")
_ENCODER = msgspec.json.Encoder()
CallVersion = tuple[str, str]  # a conversation's id, and the `order` of the JSON that was read


class Row(msgspec.Struct, kw_only=True):
    """A turn, or the call itself. All fields are written, because DuckDB needs to see each column.

    `started` is in Unix seconds, `secs` is the turn's second in the call. `words` are the folded message. `version` is
    the `order` of the JSON that was read. The last four are the call's alone: its length, result, state of the
    recording when it was announced, and ElevenLabs' credits.
    """

    conversation_id: str
    agent_id: str | None
    caller: str | None
    started: int
    turn: int
    secs: float | None = None
    role: str | None = None
    message: str | None = None
    words: str | None = None
    version: str
    seconds: int | None = None
    outcome: str | None = None
    audio: str | None = None
    cost: int | None = None


class _Named(msgspec.Struct):
    conversation_id: str
    version: str
    caller: str | None = None


_NAMED = msgspec.json.Decoder(_Named)


def read_caller(line: bytes) -> str | None:
    """The caller's number in a line of a file."""
    return _NAMED.decode(line).caller


def rows_of(
    conversation: Conversation, conversation_id: str, caller: str | None, listed: int, version: str, audio: str
) -> Iterator[Row]:
    """The rows of a call. `listed` is when it is listed, in Unix seconds: its start, if that is known."""
    named: dict[str, Any] = {
        "conversation_id": conversation_id, "agent_id": conversation.agent_id, "caller": caller, "started": listed,
        "version": version,
    }  # fmt: skip
    yield Row(
        **named, turn=CALL, role="call", seconds=conversation.duration_secs, outcome=conversation.call_successful,
        audio=audio, cost=conversation.cost,
    )  # fmt: skip
    for index, turn in enumerate(conversation.turns()):
        if words := fold(turn.message or ""):
            yield Row(**named, turn=index, secs=turn.secs, role=turn.role, message=turn.message, words=words)


def day_prefix(day: str) -> str:
    """The folder of a day such as 2026-11-22."""
    return f"{PREFIX}day={day}/"


def file_key(day: str, versions: Iterable[CallVersion]) -> str:
    """The key of a file with these versions of calls: the same file always has the same key."""
    named = "\n".join(sorted(f"{conversation_id} {version}" for conversation_id, version in set(versions)))
    return f"{day_prefix(day)}{hashlib.sha256(named.encode()).hexdigest()}.jsonl.gz"


def day_of(key: str) -> str | None:
    """The day of a file's key; None if the key is of another form."""
    found = _DAY.fullmatch(key)
    return found[1] if found else None


def write_rows(rows: Iterable[Row]) -> bytes:
    """A file. The same rows always give the same bytes."""
    return compress(map(encode_row, rows))


def encode_row(row: Row) -> bytes:
    """A line of a file."""
    return _ENCODER.encode(row) + b"\n"


def compress(lines: Iterable[bytes]) -> bytes:
    """A file with these lines, which need not be in memory all at once."""
    buffer = BytesIO()
    with gzip.GzipFile(fileobj=buffer, mode="wb", mtime=0) as file:
        file.writelines(lines)
    return buffer.getvalue()


def read_lines(body: bytes) -> Iterator[tuple[CallVersion, bytes]]:
    """The lines of a file, and the version of the call that each is about. Raises ValueError if it is not one of ours.

    They are decompressed one by one: a small file may have millions.
    """
    try:
        with gzip.GzipFile(fileobj=BytesIO(body)) as file:
            for line in file:
                named = _NAMED.decode(line)
                yield (named.conversation_id, named.version), line
    except (OSError, EOFError, zlib.error, msgspec.MsgspecError):
        raise ValueError("not a file of rows") from None


def versions_in(body: bytes) -> set[CallVersion]:
    """The versions of calls that have rows in a file. Raises ValueError if it is not one of ours."""
    return {version for version, _ in read_lines(body)}


def read_rows(body: bytes) -> list[Row]:
    """The rows in a file that is already decompressed. Raises ValueError if it is not one of ours."""
    return msgspec.json.Decoder(Row).decode_lines(body)


def fold(text: str) -> str:
    """The words of a text without case, accents and punctuation, a blank around each; empty if it has no words."""
    decomposed = unicodedata.normalize("NFKD", unicodedata.normalize("NFKD", text).casefold())
    kept = (each for each in decomposed if not _FIRST_MARK <= each <= _LAST_MARK)
    words = "".join(each if unicodedata.category(each)[0] in "LMN" else " " for each in kept).split()
    return unicodedata.normalize("NFKC", f" {' '.join(words)} ") if words else ""


def needles(query: str) -> list[str]:
    """What the `words` of a row must contain to be found: only letters, marks, digits and blanks.

    A word finds the beginnings of words, a single letter only the whole word, a text in double quotes these words in
    this order. Scripts without blanks between words are searched as they stand. Raises ValueError, with a sentence for
    the person who searches.
    """
    if len(query) > MOST_CHARACTERS:
        raise ValueError(f"must have at most {MOST_CHARACTERS} characters")
    found = [needle for phrase, words in _PHRASE.findall(query) for needle in _needles(phrase, words)]
    if not found:
        raise ValueError("must have a word: a letter or a digit")
    if sum(len(needle.split()) for needle in found) > MOST_WORDS:
        raise ValueError(f"must have at most {MOST_WORDS} words")
    return list(dict.fromkeys(found))


def _needles(phrase: str, words: str) -> Iterator[str]:
    if folded := fold(phrase):
        yield folded.strip() if _UNSPACED.search(folded) else folded
    for word in fold(words).split():
        if _UNSPACED.search(word):
            yield word
        else:
            yield f" {word} " if len(word) == 1 else f" {word}"
