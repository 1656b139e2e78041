"""The questions that a new stack is made by: eight at most, each with a default."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path

import click

from scripts.aws_session import OpsError
from scripts.deploy.parameters import NONE, Parameter, read_hidden

MOST = 8
_STACK_NAME = r"[A-Za-z][A-Za-z0-9-]{0,127}"


class Questions:
    """Asks on the terminal, and counts. A wrong answer is told what is wrong, and asked for again."""

    def __init__(self, declared: Mapping[str, Parameter]) -> None:
        self._declared, self._asked = declared, 0

    def stack_name(self, default: str) -> str:
        name = Parameter("The name", default, False, _STACK_NAME, (), "has letters, digits and - only, a letter first.")
        return self._ask("Name of the stack", "All that it makes carries this name.", default, name.check)

    def region(self, default: str, check: Callable[[str], str]) -> str:
        return self._ask("Region", "Where calls are kept. A stack cannot be moved.", default, check)

    def parameters(self) -> dict[str, str]:
        """The answers, by the stack's parameters; what has its default is left out."""
        chosen = {
            "WebhookSecretValue": self._secret(
                "WebhookSecretValue", "Signing secret of the webhook",
                "ElevenLabs shows it when you enter the stack's address there. Enter: later.",
            ),
            "ElevenLabsApiKey": self._secret(
                "ElevenLabsApiKey", "ElevenLabs API key",
                "Fetches what no webhook brings, such as recordings of more than 4.9 minutes. Enter: none.",
            ),
        } | self._memories() | {
            "AlarmEmail": self._ask(
                "E-mail for alarms", "AWS sends a mail first, which must be confirmed. Enter: none.", "",
                self._declared["AlarmEmail"].check,
            ),
            "KeepAudio": "true" if self._ask(
                "Keep recordings", "yes: MP3 beside each call. no: none is kept, nor fetched.", "yes", _yes_or_no,
            ) == "yes" else "false",
        }  # fmt: skip
        return {name: value for name, value in chosen.items() if value != self._declared[name].default}

    def _memories(self) -> dict[str, str]:
        where = self._ask(
            "Where memories go",
            "hosted: Mem0's platform. own: open-source Mem0, as a file of yours says. none: they wait 14 days.",
            "hosted", _one_of("hosted", "own", "none"),
        )  # fmt: skip
        if where == "hosted":
            sentence = "From Mem0's dashboard. Enter: later; until then memories wait 14 days."
            return {"Mem0ApiKey": self._secret("Mem0ApiKey", "Mem0 API key", sentence)}
        if where == "own":
            sentence = "JSON that mem0.Memory.from_config takes. Name the file."
            return {
                "MemoryBackend": "oss",
                "MemoryConfig": self._ask("Mem0 configuration", sentence, None, self.config),
            }
        return {}

    def hidden(self, parameter: Parameter) -> str:
        """A secret that PARAMETERS says to ask for. Mem0's configuration is in a file."""
        if parameter.name == "MemoryConfig":
            return str(click.prompt("File of MemoryConfig", value_proc=_answered(self.config), err=True))
        return read_hidden(parameter.name)

    def config(self, path: str) -> str:
        """The configuration in the file, on one line."""
        try:
            content = json.dumps(json.loads(Path(path).expanduser().read_text()), separators=(",", ":"))
        except OSError as error:
            raise OpsError(f"The file cannot be read: {error.strerror}.") from None
        except ValueError:
            raise OpsError("The file is not JSON.") from None
        return self._declared["MemoryConfig"].check(content)

    def _secret(self, name: str, title: str, sentence: str) -> str:
        return self._ask(title, sentence, "", self._declared[name].check, hide=True) or NONE

    def _ask(
        self, title: str, sentence: str, default: str | None, check: Callable[[str], str], *, hide: bool = False
    ) -> str:
        self._asked += 1
        click.echo(f"\n{title} ({self._asked} of {MOST})\n  {sentence}", err=True)
        return str(
            click.prompt(
                "  >", default=default, show_default=bool(default), hide_input=hide, prompt_suffix=" ",
                value_proc=_answered(lambda text: text if hide and not text else check(text)), err=True,
            )
        )  # fmt: skip


def _answered(check: Callable[[str], str]) -> Callable[[str], str]:
    """As click wants it: what is wrong with an answer is shown, and it asks again."""

    def process(text: str) -> str:
        try:
            return check(text.strip())
        except OpsError as error:
            raise click.UsageError(str(error)) from None

    return process


def _one_of(*choices: str) -> Callable[[str], str]:
    def check(text: str) -> str:
        if text not in choices:
            raise OpsError(f"Answer {', '.join(choices[:-1])} or {choices[-1]}.")
        return text

    return check


def _yes_or_no(text: str) -> str:
    return _one_of("yes", "no")({"y": "yes", "n": "no"}.get(text.lower(), text.lower()))
