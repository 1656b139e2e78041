"""The masking of phone numbers in logs."""

import json

import pytest

from shared.observability import mask, mask_key, to_line

DIGITS = "120255501234567"


@pytest.mark.parametrize("plus", ["", "+"])
@pytest.mark.parametrize("length", range(1, 16))
def test_a_masked_number_hides_half_of_its_digits_or_five(length, plus):
    number = plus + DIGITS[:length]

    head, tail = mask(number).split("…")

    hidden = length - len(head.removeprefix("+")) - len(tail)
    assert hidden >= min(5, -(-length // 2))
    assert number.startswith(head)
    assert number.endswith(tail)


@pytest.mark.parametrize(
    ("number", "masked"),
    [
        ("+12025550123", "+120…123"), ("12025550123", "120…123"), ("+442079460123", "+4420…123"),
        ("5550123", "55…3"), ("+911", "+9…"), ("7", "…"), ("+", "+…"), ("", "…"),
    ],
)  # fmt: skip
def test_a_masked_number_shows_its_first_and_last_digits(number, masked):
    assert mask(number) == masked


def test_a_masked_key_hides_the_number_in_its_folder():
    assert mask_key("12025550123/conv_1.json") == "120…123/conv_1.json"
    assert mask_key("5550123/conv_1.json") == "55…3/conv_1.json"
    assert mask_key("no-phone/conv_1.json") == "no-phone/conv_1.json"


def test_a_number_that_an_exception_quotes_is_masked():
    line = to_line({"message": "Record failed", "exception": "ValueError: +12025550123 is no id (line 1202555)"})

    assert json.loads(line)["exception"] == "ValueError: +120…123 is no id (line 12…5)"
