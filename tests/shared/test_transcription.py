"""The turns in results of Amazon Transcribe, of the forms that it has had."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.conversation import Turn
from shared.transcription import length_of, turns_of, version_of
from tests.transcriber.conftest import RESULT, spoken


def test_consecutive_words_of_one_speaker_are_a_turn_from_its_first_second():
    result = spoken(
        ("spk_0", "Hello", 0.2), ("spk_0", ",", 0), ("spk_0", "Sam", 0.9), ("spk_0", ".", 0),
        ("spk_1", "My", 1.5), ("spk_1", "refund", 2.25), ("spk_1", "?", 0), ("spk_0", "Soon", 4),
    )  # fmt: skip

    assert turns_of(result) == [
        Turn("speaker_0", "Hello, Sam.", 0.2), Turn("speaker_1", "My refund?", 1.5), Turn("speaker_0", "Soon", 4.0),
    ]  # fmt: skip
    assert length_of(result) == 4.5


def test_labels_that_are_beside_the_words_count_too():
    """As results had them before the words had labels of their own."""
    words = json.loads(RESULT)
    timed = [item for item in words["results"]["items"] if "start_time" in item]
    segments = [
        {"items": [{"start_time": each["start_time"], "speaker_label": each["speaker_label"]}]} for each in timed
    ]
    for item in words["results"]["items"]:
        del item["speaker_label"]
    words["results"]["speaker_labels"] = {"speakers": 2, "segments": segments}

    assert turns_of(json.dumps(words).encode()) == turns_of(RESULT)


def test_words_without_any_label_are_one_turn():
    words = json.loads(RESULT)
    for item in words["results"]["items"]:
        del item["speaker_label"]

    assert turns_of(json.dumps(words).encode()) == [Turn("speaker_0", "Hello. My refund?", 0.2)]


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (("私", "は", "サム", "です", "。"), "私はサムです。"),
        (("我", "要", "退款", "OK", "吗"), "我要退款 OK 吗"),
        (("제", "이름은", "샘"), "제 이름은 샘"),
        (("אני", "סם"), "אני סם"),
    ],
    ids=["Japanese", "Chinese", "Korean", "Hebrew"],
)
def test_words_have_blanks_between_them_where_their_language_has(words, text):
    (turn,) = turns_of(spoken(*(("spk_0", word, place) for place, word in enumerate(words))))

    assert turn.message == text


@pytest.mark.parametrize(
    "result",
    [b"", b"not json", b"[]", b"{}", b'{"results": null}', b'{"results": {"items": [7]}}', b'{"results": {}}', b"\xff",
     b'{"results": {"items": [{"type": "pronunciation", "alternatives": []}]}}'],
)  # fmt: skip
def test_what_is_no_result_has_no_turns(result):
    assert turns_of(result) == []
    assert length_of(result) == 0


@given(st.binary(max_size=40))
def test_no_bytes_make_it_fail(body):
    turns_of(b'{"results": {"items": [' + body + b"]}}")


def test_a_call_with_words_from_its_recording_is_newer_than_without_and_older_than_its_next_version():
    order, newer = "1-1772550281000-" + "f" * 64, "1-1772550281001-" + "0" * 64
    recordings = "1-1772550281000-a", "1-1772550282000-a"

    versions = [order, *(version_of(order, each) for each in recordings), newer]
    assert versions == sorted(versions)
    assert version_of("0-1772550281000-" + "f" * 64, recordings[1]) < order
