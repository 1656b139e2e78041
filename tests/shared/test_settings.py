"""Settings: what each type is read from, and that a wrong environment names its variable."""

from dataclasses import dataclass

import pytest

from shared.settings import read_settings


@dataclass(frozen=True)
class Example:
    text: str
    whole: int
    part: float
    flag: bool


GOOD = {"TEXT": "a", "WHOLE": "7", "PART": "0.5", "FLAG": "true"}


def read(monkeypatch: pytest.MonkeyPatch, **changes: str) -> Example:
    for name, value in (GOOD | changes).items():
        monkeypatch.setenv(name, value)
    return read_settings(Example)


@pytest.mark.parametrize(("text", "flag"), [("true", True), ("True", True), ("false", False), ("", False)])
def test_the_environment_is_read_as_the_fields_types(monkeypatch, text, flag):
    assert read(monkeypatch, FLAG=text) == Example("a", 7, 0.5, flag)


def test_a_missing_variable_is_named(monkeypatch):
    monkeypatch.delenv("TEXT", raising=False)

    with pytest.raises(RuntimeError, match=r"^The environment variable TEXT is not set\.$"):
        read_settings(Example)


@pytest.mark.parametrize(("variable", "kind"), [("WHOLE", "int"), ("PART", "float")])
def test_a_variable_of_the_wrong_type_is_named_and_not_quoted(monkeypatch, variable, kind):
    with pytest.raises(RuntimeError, match=rf"^The environment variable {variable} is not a valid {kind}\.$"):
        read(monkeypatch, **{variable: "soon"})
