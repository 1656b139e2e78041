"""The stack's parameters: as the template declares them, as the operator gives them, as an update sends them."""

import re
import shlex
import sys
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass
from difflib import get_close_matches
from getpass import getpass
from math import inf
from pathlib import Path
from typing import Any

from samtranslator.yaml_helper import yaml_parse

from scripts.aws_session import OpsError

ASK = "ask"  # in place of a secret parameter's value
NONE = "none"  # how a NoEcho parameter says that there is no value
LONGEST = 4096  # bytes of a value, by CloudFormation's quotas


@dataclass(frozen=True)
class Parameter:
    """A parameter as the template declares it. `default` is text, as CloudFormation hands every value on."""

    name: str
    default: str
    is_secret: bool
    pattern: str
    allowed: tuple[str, ...]
    hint: str
    bounds: tuple[float, float] | None = None  # of a number

    def check(self, value: str) -> str:
        """The value itself. Raises OpsError, which never quotes a secret."""
        if len(value.encode()) > LONGEST:
            raise OpsError(f"{self.name} is too long: CloudFormation takes {LONGEST} bytes at most.")
        if self.allowed and value not in self.allowed:
            raise OpsError(f"{self.name} must be one of: {', '.join(self.allowed)}.")
        if self.bounds and not self._is_within(value):
            low, high = (f"{each:g}" for each in self.bounds)
            raise OpsError(f"{self.name} must be a number from {low}{'' if high == 'inf' else f' to {high}'}.")
        if self.pattern and not re.fullmatch(self.pattern, value):
            raise OpsError(f"{self.name} {self.hint or 'does not fit its pattern.'}")
        return value

    def _is_within(self, value: str) -> bool:
        low, high = self.bounds or (0, inf)
        return bool(re.fullmatch(r"\d{1,12}(\.\d+)?", value)) and low <= float(value) <= high


@dataclass(frozen=True)
class Setting:
    """One parameter in a deployment. `value` None keeps the stack's value; `before` None: the stack has none yet."""

    parameter: Parameter
    value: str | None
    before: str | None = None

    def to_request(self) -> dict[str, Any]:
        """As CreateChangeSet takes it."""
        name = {"ParameterKey": self.parameter.name}
        return name | ({"UsePreviousValue": True} if self.value is None else {"ParameterValue": self.value})

    @property
    def is_changed(self) -> bool:
        """Whether to show it as a change. A given secret counts as one: CloudFormation does not show the stored one."""
        return self.value is not None and (self.parameter.is_secret or self.value != self.before)

    def shown(self, value: str | None) -> str:
        """A value for people. Of a secret it shows only whether there is one."""
        if self.parameter.is_secret and value not in (None, NONE):
            return "(secret)"
        return value or "(empty)"


def read_template(path: Path) -> dict[str, Parameter]:
    """The parameters of the template at `path`, by name."""
    declared = yaml_parse(path.read_text()).get("Parameters", {})
    return {name: _parameter(name, each) for name, each in declared.items()}


def read_constants(path: Path) -> dict[str, str]:
    """The numbers that the template at `path` fixes, by name."""
    return {name: str(value) for name, (_, value) in constants(yaml_parse(path.read_text())).items()}


def constants(template: dict[str, Any]) -> dict[str, tuple[str, int]]:
    """The group and the value of each constant of a template, by its name."""
    groups = template.get("Mappings", {}).get("Constants", {})
    return {name: (group, value) for group, values in groups.items() for name, value in values.items()}


def chosen_before(constants: Mapping[str, str], values: Mapping[str, str]) -> list[str]:
    """A sentence for each value of a stack that the template has fixed to another one since."""
    return [
        f"{name} was {values[name]} in this stack. It is not a parameter any more: template.yaml fixes it to {value}."
        for name, value in constants.items()
        if values.get(name, value) != value
    ]


def _parameter(name: str, declared: Mapping[str, Any]) -> Parameter:
    return Parameter(
        name,
        str(declared.get("Default", "")),
        str(declared.get("NoEcho", "")).lower() == "true",
        declared.get("AllowedPattern", ""),
        tuple(map(str, declared.get("AllowedValues", ()))),
        declared.get("ConstraintDescription", ""),
        (float(declared.get("MinValue", 0)), float(declared.get("MaxValue", inf)))
        if declared.get("Type") == "Number"
        else None,
    )


def split(text: str) -> dict[str, str]:
    """PARAMETERS="Name=Value Other='a b'" as a mapping; the shell's rules of quoting hold. Raises OpsError."""
    try:
        pairs = [word.partition("=") for word in shlex.split(text)]
    except ValueError as error:
        raise OpsError(f"PARAMETERS cannot be read: {error}.") from None
    for name, equals, _ in pairs:
        if not (name and equals):
            raise OpsError(f'PARAMETERS is written "Name=Value Other=Value"; {name!r} has no value.')
    return {name: value for name, _, value in pairs}


def read_hidden(name: str) -> str:
    """A line typed without echo, or read from standard input if that is no terminal. Raises OpsError for none.

    So a secret is neither in the shell's history nor visible to other processes.
    """
    with suppress(EOFError):
        line = getpass(f"{name}: ") if sys.stdin.isatty() else sys.stdin.readline()
        if value := line.strip():
            return value
    raise OpsError(f"{name}={ASK}: nothing was given.")


def read_given(
    text: str, declared: Mapping[str, Parameter], constants: Collection[str], ask: Callable[[Parameter], str]
) -> dict[str, str]:
    """The values in PARAMETERS for a stack on AWS; `ask` reads the secrets. Raises OpsError."""
    given = split(text)
    for name, value in given.items():
        if name in constants:
            raise OpsError(
                f"{name} is not a parameter: it is fixed in template.yaml, under Mappings, Constants. "
                "Only make local can override it."
            )
        if name not in declared:
            raise OpsError(f"There is no parameter {name}.{_suggestion(name, declared)}")
        if declared[name].is_secret and value not in (ASK, NONE):
            raise OpsError(
                f"{name} is a secret. The shell stores command lines, and other users see them. Write {name}={ASK}; "
                "then you type the secret, and it is not shown. Delete the line that you have just typed from the "
                "shell's history."
            )
    return {
        name: declared[name].check(ask(declared[name]) if declared[name].is_secret and value == ASK else value)
        for name, value in given.items()
    }


def _suggestion(name: str, declared: Mapping[str, Parameter]) -> str:
    by_lower = {each.lower(): each for each in declared}
    close = get_close_matches(name.lower(), by_lower, n=1)
    return f" Do you mean {by_lower[close[0]]}?" if close else " template.yaml lists them all."


def for_new(declared: Mapping[str, Parameter], chosen: Mapping[str, str]) -> list[Setting]:
    """The settings of a new stack. All other parameters have their defaults."""
    return [Setting(declared[name], value) for name, value in chosen.items()]


def for_update(
    declared: Mapping[str, Parameter], given: Mapping[str, str], values: Mapping[str, str], defaults: Mapping[str, str]
) -> list[Setting]:
    """The settings of an update: given values, new defaults where nobody chose a value, else the stack's values.

    `values` and `defaults` are those of the stack. Nobody chose a value that equals the default of the stack's own
    template. CloudFormation does not show secrets, so they stay.
    """
    settings = (_update(each, given.get(name), values.get(name), defaults.get(name)) for name, each in declared.items())
    return [each for each in settings if each]


def _update(parameter: Parameter, given: str | None, before: str | None, default: str | None) -> Setting | None:
    """None for a parameter that is new to the stack: CloudFormation gives it its default."""
    if given is not None:
        return Setting(parameter, given, before)
    if before is None:
        return None
    stays = parameter.is_secret or before != default or before == parameter.default
    return Setting(parameter, None if stays else parameter.default, before)
