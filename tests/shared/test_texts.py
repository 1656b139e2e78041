"""The rows that a search reads: words are folded the same way in the rows and in the query."""

import gzip
import json
from datetime import datetime, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.conversation import read_conversation
from shared.texts import CALL, day_of, file_key, fold, needles, read_rows, rows_of, write_rows
from tests.conftest import fixture_body

FOUND = [
    ("refund", "Where is my refund?"),
    ("REFUND blender", "The blender, please: I want a refund."),
    ("refund", "Refunds take a week."),
    ("cafe", "We met at the Café."),
    ("café", "we met at the cafe"),
    ("strasse", "Die Straße ist gesperrt."),
    ("istanbul", "İstanbul'da"),
    ('"blender refund"', "a blender (refund) for Sam"),
    ("i", "It is what I said"),
    ("退款", "我要申请退款。"),
    ("ガ", "ガイド"),
    ("ราคา", "ถามราคาหน่อย"),
    ("환불", "제품환불을"),
    ("שלום", "אמר שלום לכולם"),
    ("مرحبا", "قال مرحبا"),
    ("हिन्दी", "वह हिन्दी बोलती है"),
    ("it's", "It's broken"),
    ("ﬁle", "a file"),
    ("4711", "Order no. 4711-B"),
]
MISSED = [
    ("fund", "Where is my refund?"),
    ("refund toaster", "Where is my refund?"),
    ('"refund blender"', "a blender refund"),
    ("i", "It is broken"),
    ("カ", "ガイド"),
    ("refund%", "ref"),
]
REFUSED = ["", "   ", '""', "%_*?", "'; --", "x" * 201, " ".join("abcdefghijk")]


def finds(query: str, message: str) -> bool:
    return all(needle in fold(message) for needle in needles(query))


@pytest.mark.parametrize(("query", "message"), FOUND)
def test_a_message_with_all_words_is_found(query: str, message: str) -> None:
    assert finds(query, message)


@pytest.mark.parametrize(("query", "message"), MISSED)
def test_a_message_without_one_of_the_words_is_not(query: str, message: str) -> None:
    assert not finds(query, message)


@pytest.mark.parametrize("query", REFUSED)
def test_a_query_without_words_or_with_too_many_is_refused_with_a_sentence(query: str) -> None:
    with pytest.raises(ValueError, match=r"^must have "):
        needles(query)


@given(st.text(max_size=200))
def test_nothing_that_sql_could_read_is_left_of_a_query(query: str) -> None:
    try:
        found = needles(query)
    except ValueError:
        return
    assert not set("'\"\\%;-()*\n\0") & set("".join(found))


@given(st.text(max_size=80))
def test_folded_text_stays_as_it_is_when_it_is_folded_again(message: str) -> None:
    assert fold(fold(message)) == fold(message)


def test_a_call_becomes_a_row_for_itself_and_one_for_each_turn_with_words() -> None:
    body = json.loads(fixture_body("02"))["data"]
    body["transcript"] = [
        {"role": "agent", "message": "Hello!", "time_in_call_secs": 0},
        {"role": "user", "message": None},
        {"role": "user", "message": "..."},
        {"role": "user", "message": "A refund.", "time_in_call_secs": 7},
    ]
    listed = int(datetime(2026, 3, 3, tzinfo=timezone.utc).timestamp())
    rows = list(
        rows_of(read_conversation(json.dumps(body).encode()), "conv_1", "12025550123", listed, "1-5", "pending")
    )

    assert [(row.turn, row.role, row.message, row.secs) for row in rows] == [
        (CALL, "call", None, None), (0, "agent", "Hello!", 0), (3, "user", "A refund.", 7),
    ]  # fmt: skip
    assert {(row.conversation_id, row.caller, row.started, row.version) for row in rows} == {
        ("conv_1", "12025550123", listed, "1-5")
    }
    assert rows[0].seconds == body["metadata"]["call_duration_secs"]
    assert rows[0].audio == "pending"
    written = write_rows(rows)
    assert read_rows(gzip.decompress(written)) == rows
    assert {tuple(json.loads(line)) for line in gzip.decompress(written).splitlines()} == {
        type(rows[0]).__struct_fields__
    }


def test_the_same_calls_have_the_same_file_whatever_their_order() -> None:
    key = file_key("2026-03-03", [("conv_1", "1-5"), ("conv_2", "1-6")])

    assert key == file_key("2026-03-03", [("conv_2", "1-6"), ("conv_1", "1-5"), ("conv_1", "1-5")])
    assert key != file_key("2026-03-03", [("conv_1", "1-6"), ("conv_2", "1-6")])
    assert day_of(key) == "2026-03-03"
    assert day_of("text/day=2026-03-03/notes.txt") is None
