"""`make deploy` against the embedded AWS, with the real SAM CLI and all of the template's resources."""

import json
import os
import re
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pexpect
import pytest

from scripts.embedded.aws import EmbeddedAws
from scripts.embedded.deployment import ROOT
from scripts.embedded.translation import emulate
from tests.alarms import translated

SECONDS = 120  # for one deployment; none takes a quarter of it
QUESTION = re.compile(r"\(question \d, at most 8\)")
SAM_PROMPT = re.compile(r"(\][^\n\]]{0,6}|\[[yYnN]/[yYnN]\]|[A-Za-z0-9]\x1b\[0m): ?$")
ANSI = re.compile(r"\x1b\[[0-9;]*m")
PROMPT = re.compile(r"\(question \d, at most 8\)[^>]*> (\[[^\]]*\] )?$|(?<=\n)\w+: $|^\w+: $")


@pytest.fixture(scope="module")
def aws() -> Iterator[EmbeddedAws]:
    with EmbeddedAws() as running:
        yield running


class Built:
    """What `sam build` leaves, with a template that the embedded AWS knows, and a function that does nothing."""

    def __init__(self, folder: Path, aws: EmbeddedAws) -> None:
        self.path = folder / "template.json"
        (folder / "code" / "ingest").mkdir(parents=True)
        (folder / "code" / "ingest" / "handler.py").write_text("def lambda_handler(event, context): pass\n")
        self._template = emulate(translated(), {}, aws.endpoint_url)
        for resource in self._template["Resources"].values():
            if resource["Type"] == "AWS::Lambda::Function":
                resource["Properties"]["Code"] = "./code"
        self.write(lambda _: None)

    def write(self, change: Callable[[dict[str, Any]], None]) -> Path:
        """The template as it is, but for a change."""
        template = json.loads(json.dumps(self._template))
        change(template)
        self.path.write_text(json.dumps(template))
        return self.path


@pytest.fixture
def built(tmp_path: Path, aws: EmbeddedAws) -> Built:
    return Built(tmp_path, aws)


class Deploy:
    """The command as an operator runs it, with a home and a folder for temporary files of its own."""

    def __init__(self, aws: EmbeddedAws, built: Built, home: Path) -> None:
        self.aws, self.home = aws, home
        self.command = [str(ROOT / ".venv-sam" / "bin" / "python"), "-P", "-m", "scripts.deploy"]  # as make deploy does
        self.environment = {
            "PATH": os.environ["PATH"], "HOME": str(home), "TMPDIR": str(home), "TERM": "dumb", "COLUMNS": "200",
            "AWS_ENDPOINT_URL": aws.endpoint_url, "AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test",
            "BUILT": str(built.path), "PYTHONPATH": str(ROOT),
        }  # fmt: skip

    def answering(self, answers: Mapping[str, str], **environment: str) -> tuple[int, str, list[str]]:
        """Answer the questions that hold these texts, all others by Enter; returns exit code, screen, questions."""
        child = self._spawn(environment)
        screen, asked = "", []
        while child.expect([PROMPT, pexpect.EOF]) == 0:
            text = child.before + child.after
            screen += text
            asked.append(
                next((line for line in text.splitlines() if QUESTION.search(line)), text.splitlines()[-1]).strip()
            )
            time.sleep(0.1)  # until the terminal's echo is off, for a secret
            child.sendline(next((answer for title, answer in answers.items() if title in asked[-1]), ""))
        screen += child.before
        child.close()
        return child.exitstatus, screen, asked

    def guided(self, answers: Mapping[str, str]) -> tuple[int, str]:
        """Answer SAM's own questions; a secret, which has no default there, by "none"."""
        region = {"AWS_DEFAULT_REGION": "us-east-1", "SAM_CLI_TELEMETRY": "0"}
        child = self._spawn(region)
        screen = ""
        while child.expect([SAM_PROMPT, pexpect.EOF]) == 0:
            screen += child.before + child.after
            asked = screen.splitlines()[-1]
            default = "" if "[" in ANSI.sub("", asked) else "none"
            child.sendline(next((answer for title, answer in answers.items() if title in asked), default))
        child.close()
        return child.exitstatus, screen + child.before

    def _spawn(self, environment: Mapping[str, str]) -> pexpect.spawn:
        return pexpect.spawn(
            self.command[0], self.command[1:], env={**self.environment, **environment}, cwd=str(ROOT),
            timeout=SECONDS, encoding="utf-8", dimensions=(50, 200),
        )  # fmt: skip

    def unattended(self, **environment: str) -> tuple[int, str]:
        """Without a terminal; returns exit code and all that it said."""
        ran = subprocess.run(
            self.command, env=self.environment | environment, cwd=ROOT, text=True,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=SECONDS,
        )  # fmt: skip
        return ran.returncode, ran.stdout

    def stack(self, name: str = "agentic-memory") -> dict[str, Any]:
        found = self.aws.client("cloudformation").describe_stacks(StackName=name)["Stacks"][0]
        return {
            "status": found["StackStatus"],
            "parameters": {each["ParameterKey"]: each["ParameterValue"] for each in found["Parameters"]},
            "outputs": {each["OutputKey"]: each["OutputValue"] for each in found["Outputs"]},
        }

    def secret(self, output: str, name: str = "agentic-memory") -> str:
        arn = self.stack(name)["outputs"][output]
        return str(self.aws.client("secretsmanager").get_secret_value(SecretId=arn)["SecretString"])


@pytest.fixture
def deploy(aws: EmbeddedAws, built: Built, tmp_path: Path) -> Deploy:
    home = tmp_path / "home"
    home.mkdir()
    return Deploy(aws, built, home)


class Watch:
    """Looks at every process of the machine for some words, as `ps` does, until the block ends."""

    def __init__(self, *words: str) -> None:
        self._words, self._over = [word.encode() for word in words], threading.Event()
        self.seen: set[str] = set()
        self.looks = 0

    def __enter__(self) -> "Watch":
        self._thread = threading.Thread(target=self._look)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join(SECONDS)

    def _look(self) -> None:
        while not self._over.wait(0.02):
            self.looks += 1
            for process in Path("/proc").glob("[0-9]*"):
                for file in ("cmdline", "environ"):
                    try:
                        content = (process / file).read_bytes()
                    except OSError:  # it has ended
                        continue
                    self.seen |= {f"{process.name}/{file}" for word in self._words if word in content}


def files_with(folder: Path, *words: str) -> list[str]:
    """The files below a folder that hold one of the words."""
    found = []
    for path in folder.rglob("*"):
        if path.is_file() and any(word.encode() in path.read_bytes() for word in words):
            found.append(str(path))
    return found
