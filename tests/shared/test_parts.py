"""Reading JSON as parts: values that are only stored keep their bytes, and invalid JSON is refused."""

import json
import math
import sys

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from shared.parts import (
    MOST_ELEMENTS,
    Part,
    elements,
    members,
    number,
    objects,
    read_json,
    restore,
    scalar,
    text,
    without,
)

LETTER = "\uf8ff"
HALVES = ("\ud83d", "\ude00", "\\", LETTER, "\\ud83d", '"', "a", "\U0001f600")
words = st.lists(st.characters() | st.sampled_from(HALVES), max_size=8).map("".join)
numbers = st.sampled_from(["1e400", "-0", "0.10", "12345678901234567890.123", "1E-999999999", "9" * 5000])
blanks = st.sampled_from(["", " ", "\n", "\t\r "])


@st.composite
def quoted(draw: st.DrawFn) -> str:
    """A text in every form that JSON allows: letters plain or escaped, halves of emojis escaped."""
    written = json.dumps(draw(words), ensure_ascii=draw(st.booleans()))
    halves_escaped = "".join(f"\\u{ord(each):04x}" if "\ud800" <= each <= "\udfff" else each for each in written)
    return halves_escaped.replace("\\ud", "\\uD") if draw(st.booleans()) else halves_escaped


def joined(draw: st.DrawFn, parts: list[str], ends: str) -> str:
    blank = draw(blanks)
    return ends[0] + blank + f"{blank},{blank}".join(parts) + blank + ends[1]


@st.composite
def json_arrays(draw: st.DrawFn, inner: st.SearchStrategy[str]) -> str:
    return joined(draw, draw(st.lists(inner, max_size=4)), "[]")


@st.composite
def json_objects(draw: st.DrawFn, inner: st.SearchStrategy[str]) -> str:
    pairs = draw(st.lists(st.tuples(quoted(), inner), max_size=4))
    return joined(draw, [f"{name}{draw(blanks)}:{draw(blanks)}{value}" for name, value in pairs], "{}")


scalars = quoted() | numbers | st.sampled_from(["true", "false", "null"]) | st.integers().map(str)
texts = st.recursive(scalars, lambda inner: json_arrays(inner) | json_objects(inner), max_leaves=8)


@given(texts, blanks)
@example('"\\\\ud83d"', "")
@example('"\\\\\\ud83d\\udE00\\uDE00\\uf8FFd83d"', "")
@example(f'{{"{LETTER}d83d": "{LETTER}\\uf8ff0000{LETTER}"}}', "")
def test_any_json_is_written_byte_for_byte(written, blank):
    body = (blank + written + blank).encode()

    assert restore(read_json(body)) == body.strip()
    assert restore(read_json(b"\xef\xbb\xbf" + body)) == body.strip()


@given(texts)
def test_a_scalar_is_read_with_its_type(written):
    try:
        meant = json.loads(written)
    except ValueError:  # more digits than Python accepts
        meant = None

    kept = isinstance(meant, list | dict) or meant in (math.inf, -math.inf)
    assert scalar(read_json(written.encode())) == (None if kept else meant)


@given(st.dictionaries(words.map(lambda word: json.loads(json.dumps(word))), texts, max_size=4))
def test_without_removes_one_member_and_keeps_the_others(held):
    body = "{" + ", ".join(f"{json.dumps(name)}:{part}" for name, part in held.items()) + "}"

    left = restore(without("a", read_json(body.encode())))

    parts = {name: restore(part) for name, part in members(read_json(left))}
    assert parts == {name: part.encode() for name, part in held.items() if name != "a"}


@pytest.mark.parametrize("digits", ["1e400", "0.10", "12345678901234567890.123", "1E-999999999", "-0.0", "9" * 5000])
def test_every_digit_and_blank_is_kept(digits):
    body = f'{{ "a" : {digits} ,\n "full_audio": "AAAA", "b":[ 0.10,\t1E+2 ]}}'.encode()

    left = without("full_audio", read_json(body))

    assert restore(read_json(body)) == body
    assert left == f'{{"a":{digits},"b":[ 0.10,\t1E+2 ]}}'.encode()


def test_for_a_repeated_name_the_last_value_counts_and_both_are_kept():
    body = b'{"type": "first", "type": "last"}'

    assert restore(read_json(body)) == body
    assert [(name, bytes(part)) for name, part in members(read_json(body))] == [("type", b'"last"')]


@pytest.mark.parametrize(
    "body",
    [
        b"", b" ", b"\xef\xbb\xbf", b"{", b"{}x", b"[1,]", b"{'a': 1}", b"nul", b"01", b"1.", b"+1", b'"\\x"',
        b'"\\ud8"',        b"NaN", b"[Infinity]", b'{"a": -Infinity}', b'"a\nb"', b'{"a": "\x00"}', b'["\x1f"]',
        b'{"a": "\xff"}', b'{"a": ["\xed\xa0\xbd"]}', b'{"a": "\xc3"}', '{"a": 1}'.encode("utf-16"),
        b"\xef\xbb\xbf\xef\xbb\xbf{}", b"{\xef\xa3\xbf:1}", b"[" * 100_000 + b"]" * 100_000, b'{"a":' * 100_000,
    ],
    ids=lambda body: repr(body[:20]),
)  # fmt: skip
def test_a_body_that_is_not_json_is_refused(body):
    with pytest.raises(ValueError):  # noqa: PT011 (msgspec's, Python's and our own)
        read_json(body)


@pytest.mark.skipif(sys.version_info < (3, 12), reason="C code may recurse as little as Python's there")
def test_json_with_5000_levels_is_kept():
    body = b'{"a":' * 2500 + b"[" * 2500 + b"]" * 2500 + b"}" * 2500

    assert restore(read_json(body)) == body


def test_objects_are_found_among_scalars_but_not_next_to_an_array():
    assert len(list(objects(Part, b'[{}, 7, 1e300, "x", null, {"a": []}]'))) == 2
    assert [[*objects(Part, part)] for part in (b"[{}, []]", b"{}", b"7", b"null", b"")] == [[]] * 5


def test_an_array_gives_at_most_one_element_more_than_allowed():
    assert elements(read_json(b' [{"a": 0.10}, 7 ,null] ')) == [b'{"a": 0.10}', b"7", b"null"]
    assert elements(read_json(b"[]")) == []
    assert elements(read_json(b'{"a": []}')) is None
    assert len(elements(b"[%s]" % b",".join([b"{}"] * 5000)) or []) == MOST_ELEMENTS + 1


@pytest.mark.parametrize(
    ("part", "found"),
    [
        (b"7", 7), (b'"7.5"', 7.5), (b'"seven"', None), (b"true", None), (b"null", None), (b"[7]", None), (b"", None),
        (b"9" * 5000, None), (b'"%s"' % (b"9" * 5000), float("inf")), (b"1e400", None),
    ],
    ids=lambda value: repr(value)[:20],
)  # fmt: skip
def test_a_number_may_be_written_as_a_text(part, found):
    assert number(part) == found


def test_only_a_json_string_is_a_text():
    assert [text(part) for part in (b'"seven"', b"7", b"null", b'["seven"]', b"")] == ["seven", None, None, None, None]
