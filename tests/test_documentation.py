"""What the documentation tells people to type."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from scripts.deploy.parameters import read_template

ROOT = Path(__file__).parent.parent
SECRETS = "|".join(name for name, each in read_template(ROOT / "template.yaml").items() if each.is_secret)
TOLD = [
    ROOT / "Makefile", ROOT / "template.yaml", *ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"),
    *ROOT.glob(".github/**/*.yml"), *ROOT.glob("scripts/**/*.py"),
]  # fmt: skip
ON_A_COMMAND_LINE = re.compile(
    rf"(\b({SECRETS}|ELEVENLABS_HMAC_KEY)=|ParameterKey=({SECRETS}),ParameterValue=)(?!(ask|none)\b)"
    r"|--secret-(string|binary)\b"
)


def told_secrets(text: str) -> Iterator[str]:
    """The lines that have somebody type a secret into a command."""
    return (line.strip() for line in text.splitlines() if ON_A_COMMAND_LINE.search(line))


@pytest.mark.parametrize(
    "line",
    [
        'PARAMETERS="Mem0Host=http://x Mem0ApiKey=…" make local',
        "sam deploy --parameter-overrides MemoryConfig=$(cat config.json)",
        "aws cloudformation update-stack --parameters ParameterKey=ElevenLabsApiKey,ParameterValue=KEY",
        "aws secretsmanager put-secret-value --secret-id ARN --secret-string wsec_…",
        "ELEVENLABS_HMAC_KEY=wsec_… python scripts/test_s3_storage.py",
        "make deploy PARAMETERS=WebhookSecretValue=asked",
    ],
)
def test_a_secret_on_a_command_line_is_found(line: str) -> None:
    assert list(told_secrets(f"Type this:\n  {line}\n")) == [line]


@pytest.mark.parametrize("line", ['make deploy PARAMETERS="Mem0ApiKey=ask AgentIds=a"', "ElevenLabsApiKey=none"])
def test_a_secret_that_is_asked_for_is_not_on_the_command_line(line: str) -> None:
    assert list(told_secrets(line)) == []


def test_no_documentation_has_people_type_a_secret_into_a_command() -> None:
    assert {path.name: lines for path in TOLD if (lines := list(told_secrets(path.read_text())))} == {}
