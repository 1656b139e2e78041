"""Settings: how each type is read, which error names a wrong variable, and when they are read."""

import os
import subprocess
import sys
from dataclasses import dataclass
from typing import Any

import pytest

from scripts.embedded.deployment import ROOT
from shared.settings import read_settings
from tests.alarms import Deployed


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


ON_LAMBDA = {
    "AWS_LAMBDA_FUNCTION_NAME": "calls-function", "AWS_REGION": "us-east-1", "AWS_DEFAULT_REGION": "us-east-1",
    "AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test",
}  # fmt: skip
FUNCTIONS = Deployed(ElevenLabsApiKey="xi-test", CanaryMinutes="15").of("AWS::Lambda::Function")
HANDLERS = {each["Handler"].rpartition(".")[0]: each["Environment"]["Variables"] for each in FUNCTIONS.values()}


def start(module: str, environment: dict[str, Any]) -> subprocess.CompletedProcess[str]:
    """Import a handler in a separate process, which prints how often its settings and clients were made."""
    code = (
        f"import {module} as handler; print(handler.settings.cache_info().currsize, handler.aws.cache_info().currsize)"
    )
    plain = {name: str(value) for name, value in environment.items()}
    return subprocess.run(
        [sys.executable, "-c", code],
        env={"PATH": os.defpath} | plain,
        cwd=ROOT,
        capture_output=True,
        timeout=120,
        text=True,
        check=False,
    )


@pytest.mark.parametrize(("module", "variables"), HANDLERS.items(), ids=HANDLERS)
def test_on_lambda_settings_and_clients_are_made_while_the_function_starts(module, variables):
    started = start(module, variables | ON_LAMBDA)

    assert (started.stdout, started.stderr) == ("1 1\n", "")


@pytest.mark.parametrize("module", HANDLERS)
def test_elsewhere_a_handler_is_imported_without_any_environment(module):
    started = start(module, {})

    assert started.stdout == "0 0\n"


@pytest.mark.parametrize("module", HANDLERS)
def test_on_lambda_a_missing_variable_is_named_while_the_function_starts(module):
    variables = {name: value for name, value in HANDLERS[module].items() if name.startswith("POWERTOOLS_")}

    started = start(module, variables | ON_LAMBDA)

    assert started.returncode != 0
    assert "RuntimeError: The environment variable " in started.stderr.splitlines()[-1]
    assert started.stderr.splitlines()[-1].endswith(" is not set.")
