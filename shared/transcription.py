"""What Amazon Transcribe heard in a recording: the turns in its result, and the version of a call that has them."""

import re
from collections.abc import Iterator
from itertools import groupby
from typing import NamedTuple

import msgspec

from shared.call import Call
from shared.conversation import Conversation, Turn
from shared.keys import call_transcription
from shared.texts import UNSPACED_LETTERS, fold

_UNSPACED = re.compile(f"[{UNSPACED_LETTERS}\u3001-\u30ff\uff00-\uffef]")  # Japanese and Chinese marks too
_SPEAKER = re.compile(r"spk_(\d{1,2})")


class _Alternative(msgspec.Struct):
    content: str = ""


class _Item(msgspec.Struct):
    """A word, or a punctuation mark, which has no time."""

    type: str = ""
    start_time: float | None = None
    end_time: float | None = None
    speaker_label: str | None = None
    alternatives: list[_Alternative] = []


class _Segment(msgspec.Struct):
    items: list[_Item] = []


class _Speakers(msgspec.Struct):
    segments: list[_Segment] = []


class _Results(msgspec.Struct):
    items: list[_Item] = []
    speaker_labels: _Speakers | None = None


class _Result(msgspec.Struct):
    results: _Results


class _Word(NamedTuple):
    role: str
    text: str
    secs: float | None
    is_mark: bool


def result_key(call: Call) -> str | None:
    """The key of what Amazon Transcribe heard in the call's recording; None if the call has no such object."""
    key = call_transcription(str(call.folder), call.conversation_id)
    return key if key in call.event_keys else None


def turns_of(result: bytes) -> list[Turn]:
    """The turns in a result of Amazon Transcribe: consecutive words of one speaker, from the second of the first word.

    Their roles are `speaker_0`, `speaker_1`: nobody knows which of them is the agent. A result that cannot be read has
    no turns.
    """
    turns = []
    for role, group in groupby(_words(_read(result)), key=lambda word: word.role):
        words = list(group)
        turns.append(Turn(role, _joined(words), words[0].secs))
    return turns


def length_of(result: bytes) -> float:
    """The second at which the last word ends."""
    return max((item.end_time or 0 for item in _read(result).items), default=0)


def version_of(order: str, recording: str) -> str:
    """The version of a call whose JSON of this `order` has no words, with those of the `recording` of that order.

    It is newer than the same JSON without them, or with those of an older recording, and older than a newer JSON.
    """
    return f"{order}~{recording}"


def is_without_words(conversation: Conversation) -> bool:
    return not any(fold(turn.message or "") for turn in conversation.turns())


def _read(result: bytes) -> _Results:
    try:
        return msgspec.json.decode(result, type=_Result, strict=False).results  # its numbers are texts
    except msgspec.MsgspecError:
        return _Results()


def _words(results: _Results) -> Iterator[_Word]:
    """The words with their speakers. A mark belongs to the word before it, whatever its own label says."""
    segments = results.speaker_labels.segments if results.speaker_labels else []
    labels = {item.start_time: item.speaker_label for segment in segments for item in segment.items}
    role = "speaker_0"
    for item in results.items:
        content = item.alternatives[0].content if item.alternatives else ""
        is_mark = item.type == "punctuation"
        if not is_mark:
            label = _SPEAKER.fullmatch(item.speaker_label or labels.get(item.start_time) or "")
            role = f"speaker_{int(label[1])}" if label else role
        if content:
            yield _Word(role, content, item.start_time, is_mark)


def _joined(words: list[_Word]) -> str:
    text = ""
    for word in words:
        is_spaced = text and not word.is_mark and not (_UNSPACED.match(text[-1]) and _UNSPACED.match(word.text))
        text += f" {word.text}" if is_spaced else word.text
    return text
