"""The questions for a new stack: eight at most, each with a default."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path

import click

from scripts.aws_session import OpsError
from scripts.deploy.parameters import NONE, Parameter, read_hidden

MOST = 8
_STACK_NAME = r"[A-Za-z][A-Za-z0-9-]{0,127}"
_TRUE = {"yes": "true", "no": "false"}


class Questions:
    """Asks on the terminal, and counts. After a wrong answer it says what is wrong and asks again."""

    def __init__(self, declared: Mapping[str, Parameter]) -> None:
        self.declared, self.name, self._asked = declared, "", 0

    def ask_name(self, default: str) -> None:
        name = Parameter("The name", default, False, _STACK_NAME, (), "has letters, digits and - only, a letter first.")
        self.name = self._ask("Name of the stack", "The names of its resources start with it.", default, name.check)

    def region(self, default: str, check: Callable[[str], str]) -> str:
        return self._ask("Region", "Where calls are kept. A stack cannot be moved.", default, check)

    def parameters(self, given: Mapping[str, str]) -> dict[str, str]:
        """The answers by parameter. It does not ask for what is given, and leaves out answers equal to the default."""
        chosen: dict[str, str] = {}
        if "WebhookSecretValue" not in given:
            sentence = "ElevenLabs shows it once it has the stack's address. Press Enter to give it later."
            chosen |= self._secret("WebhookSecretValue", "Signing secret of the webhook", sentence)
        if "ElevenLabsApiKey" not in given:
            sentence = (
                "Fetches what webhooks do not deliver, such as recordings over 4.9 minutes. Press Enter for none."
            )
            chosen |= self._secret("ElevenLabsApiKey", "ElevenLabs API key", sentence)
        if not {"MemoryBackend", "Mem0ApiKey", "MemoryConfig"} & given.keys():
            chosen |= self._memories()
        if "AlarmEmail" not in given:
            sentence = "AWS sends a first mail, which you must confirm. Press Enter for none."
            chosen["AlarmEmail"] = self._ask("E-mail for alarms", sentence, "", self.declared["AlarmEmail"].check)
        if "KeepAudio" not in given:
            sentence = "yes: an MP3 beside each call. no: recordings are neither kept nor fetched."
            chosen["KeepAudio"] = _TRUE[self._ask("Keep recordings", sentence, "yes", _yes_or_no)]
        return {name: value for name, value in chosen.items() if value != self.declared[name].default}

    def _memories(self) -> dict[str, str]:
        sentence = (
            "hosted: Mem0's platform. own: open-source Mem0, set up by a JSON file. "
            "none: they wait 14 days, then they are deleted."
        )
        where = self._ask("Where memories go", sentence, "hosted", _one_of("hosted", "own", "none"))
        if where == "hosted":
            sentence = "From Mem0's dashboard. Press Enter to give it later; until then memories wait 14 days."
            return self._secret("Mem0ApiKey", "Mem0 API key", sentence)
        if where == "own":
            sentence = "The file with the JSON that mem0.Memory.from_config takes."
            config = self._ask("Mem0 configuration", sentence, "mem0.json", self.config)
            return {"MemoryBackend": "oss", "MemoryConfig": config}
        return {}

    def hidden(self, parameter: Parameter) -> str:
        """A secret for which PARAMETERS says `ask`. Mem0's configuration is read from a file."""
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
        return self.declared["MemoryConfig"].check(content)

    def _secret(self, name: str, title: str, sentence: str) -> dict[str, str]:
        return {name: self._ask(title, sentence, "", self.declared[name].check, hide=True) or NONE}

    def _ask(self, title: str, sentence: str, default: str, check: Callable[[str], str], *, hide: bool = False) -> str:
        self._asked += 1
        click.echo(f"\n{title} (question {self._asked}, at most {MOST})\n  {sentence}", err=True)
        return str(
            click.prompt(
                "  >", default=default, show_default=bool(default), hide_input=hide, prompt_suffix=" ",
                value_proc=_answered(lambda text: text if hide and not text else check(text)), err=True,
            )
        )  # fmt: skip


def _answered(check: Callable[[str], str]) -> Callable[[str], str]:
    """As click wants it: a wrong answer shows what is wrong, and click asks again."""

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
