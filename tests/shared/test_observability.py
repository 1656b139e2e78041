"""The masking of phone numbers in logs."""

import json

import pytest

from shared.observability import mask, mask_key, mask_numbers, to_line

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


def test_the_account_in_an_arn_stays_readable_and_a_phone_number_never():
    arn = "arn:aws:sts::123456789012:assumed-role/archiver"

    assert mask_numbers(f"User: {arn} is refused") == f"User: {arn} is refused"
    assert mask_numbers("arn:aws:s3:::bucket/120255501234/a.json") == "arn:aws:s3:::bucket/1202…234/a.json"
    assert mask_numbers("arn:aws:sqs:us-east-1:+12025550123:q") == "arn:aws:sqs:us-east-1:+120…123:q"
    assert mask_numbers("caller:123456789012:x") == "caller:1234…012:x"
