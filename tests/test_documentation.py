"""The documentation: its links lead somewhere, its commands exist, its example of a signature is accepted."""

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from functools import cache
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
import typer.main

from ingest.signature import verify
from scripts.deploy.parameters import read_template
from scripts.operations.app import app
from shared.errors import SignatureError
from tests.conftest import SECRET

ROOT = Path(__file__).parent.parent
PAGES = [*sorted(ROOT.glob("*.md")), *sorted(ROOT.glob("docs/**/*.md"))]
CODE = [path for path in (*ROOT.glob("[!.]*/*.py"), *ROOT.glob("scripts/*/**/*.py")) if path.parent.name != "tests"]
SPEAKS = [ROOT / "Makefile", ROOT / "template.yaml", *ROOT.glob(".github/**/*.yml"), *CODE]
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


# ---------------------------------------------------------------- links


def headings(page: Path) -> list[str]:
    return re.findall(r"^#+ (.+)$", FENCE.sub("", page.read_text()), re.MULTILINE)


def anchor(heading: str) -> str:
    """How GitHub makes the anchor of a heading: lower case, no punctuation, hyphens for blanks."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def broken_links(page: Path) -> Iterator[str]:
    """The links of a page to a file or a heading that does not exist. Links to the web are not followed."""
    for target in re.findall(r"\]\(([^)\s]+)\)", FENCE.sub("", page.read_text())):
        path, _, name = target.partition("#")
        file = page.parent / path if path else page
        if re.match(r"https?:", target):
            continue
        exists = file.resolve().is_relative_to(ROOT.resolve()) and file.exists()
        if not exists or (name and name not in map(anchor, headings(file))):
            yield target


def broken_mentions(text: str) -> Iterator[str]:
    """What a message names, such as `docs/operate.md, "Start here"` or `docs/operate.md: AnAlarm`, and is not there."""
    for mention in re.finditer(r"((?:docs/)?[\w-]+\.md)(?:, \"([^\"]+)\"|: (\w+Alarm))?", text):
        page, heading = ROOT / mention[1], mention[2] or mention[3]
        if not page.exists() or (heading and heading not in headings(page)):
            yield mention[0]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_leads_to_a_file_or_a_heading_that_exists(page: Path) -> None:
    assert list(broken_links(page)) == []


@pytest.mark.parametrize("target", ["docs/nothing.md", "#no-heading", "docs/operate.md#no-heading", "../outside.md"])
def test_a_broken_link_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, target: str) -> None:
    monkeypatch.setattr("tests.test_documentation.ROOT", tmp_path)
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "operate.md").write_text("# Operate\n\n## Start here\n")
    page = tmp_path / "README.md"
    page.write_text(f"# Title\n\n[good](docs/operate.md#start-here), [too](#title), [bad]({target})\n")

    assert list(broken_links(page)) == [target]


def test_every_page_that_code_and_template_name_exists() -> None:
    assert {path.name: found for path in SPEAKS if (found := list(broken_mentions(path.read_text())))} == {}


def missing_files(text: str) -> Iterator[str]:
    """The paths of tests and scripts in backticks that do not exist, and tests, as `tests/a.py::test_b`, likewise."""
    for mention in re.finditer(r"`((?:tests|scripts)/[a-z0-9_/-]+\.py)(?:::(\w+))?`", text):
        path = ROOT / mention[1]
        if not path.exists() or (mention[2] and f"def {mention[2]}(" not in path.read_text()):
            yield mention[0].strip("`")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_test_and_script_that_a_page_names_exists(page: Path) -> None:
    assert list(missing_files(page.read_text())) == []


@pytest.mark.parametrize(
    "name", ["tests/test_nothing.py", "scripts/operations/nothing.py", "tests/test_layout.py::test_nothing"]
)
def test_a_file_that_does_not_exist_is_found(name: str) -> None:
    assert list(missing_files(f"See `{name}`, `tests/test_layout.py` and `scripts/operations/app.py`.")) == [name]


def test_the_readme_links_to_every_page() -> None:
    linked = set(re.findall(r"\]\((docs/[\w-]+\.md)", (ROOT / "README.md").read_text()))

    assert linked == {f"docs/{page.name}" for page in ROOT.glob("docs/*.md")}


def test_the_demo_prints_the_lines_that_the_readme_shows() -> None:
    (output,) = (block for _, block in FENCE.findall((ROOT / "README.md").read_text()) if "make demo" in block)
    code = "\n".join(path.read_text() for path in CODE)

    lines = re.findall(r"^(?:✓|\d\.) (.+?)(?: \([\d.]+ s\))?$", output, re.MULTILINE)

    assert len(lines) == 6
    assert [line for line in lines if f'"{line}"' not in code] == []


def test_the_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text().splitlines()) <= 160


def entries() -> dict[str, str]:
    """What docs/operate.md says of each alarm."""
    parts = re.split(r"^##+ (.+)$", (ROOT / "docs" / "operate.md").read_text(), flags=re.MULTILINE)[1:]
    return {title: text for title, text in zip(parts[::2], parts[1::2], strict=True) if title.endswith("Alarm")}


@pytest.mark.parametrize("name", entries())
def test_an_alarms_entry_says_what_it_means_what_to_do_and_when_it_is_over(name: str) -> None:
    assert re.findall(r"\*\*(It means|Do|Over when):\*\*", entries()[name]) == ["It means", "Do", "Over when"]


# ---------------------------------------------------------------- commands


def shown_commands(page: Path) -> list[str]:
    """What a page shows as code, a command a line: in blocks, and in the text. Continued lines are joined."""
    text = page.read_text()
    blocks = "\n".join(block for language, block in FENCE.findall(text) if language in ("sh", "console"))
    inline = re.findall(r"`([^`\n]+)`", FENCE.sub("", text))
    lines = [*blocks.replace("\\\n", " ").splitlines(), *inline]
    return [re.sub(r"\s#\s.*", "", line).removeprefix("$ ").strip() for line in lines]


@cache
def operators_tool() -> Any:
    return typer.main.get_command(app)


def unknown_words(line: str) -> list[str]:
    """The commands and options in a line with `ops …` that the operators' tool does not have."""
    if not (found := re.match(r"(?:AWS_REGION=\S+ )?(?:\./scripts/)?ops( .*|$)", line)):
        return []
    command = operators_tool()
    known = {option for each in command.params for option in each.opts} | {"--help"}
    unknown, words = [], found[1].split()
    if "--stack" in words:
        del words[words.index("--stack") + 1 :][:1]
        words.pop(words.index("--stack") + 1)
    for word in words:
        if word.startswith("--"):
            unknown += [] if word.partition("=")[0] in known else [word]
        elif hasattr(command, "commands") and re.fullmatch(r"[a-z-]+", word):
            if word not in command.commands:
                return [*unknown, word]
            command = command.commands[word]
            known |= {option for each in command.params for option in (*each.opts, *each.secondary_opts)}
    return unknown


def unknown_target(line: str) -> list[str]:
    """The targets in a line with `make …` that the Makefile does not have."""
    if not (found := re.match(r"(?:[A-Za-z_]\w*=(?:\"[^\"]*\"|\S+) )*make( .*|$)", line)):
        return []
    words = [word for word in re.sub(r"\w+=(\"[^\"]*\"|\S+)", "", found[1]).split() if re.fullmatch(r"[a-z-]+", word)]
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    return [word for word in words if word not in targets]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_command_that_is_shown_exists(page: Path) -> None:
    lines = shown_commands(page)

    assert {line: found for line in lines if (found := unknown_words(line) + unknown_target(line))} == {}


@pytest.mark.parametrize(
    ("line", "unknown"),
    [
        ("./scripts/ops dlq heal archive", ["heal"]),
        ("ops --stack calls status --now", ["--now"]),
        ("AWS_REGION=eu-central-1 ./scripts/ops --stack calls-eu state", ["state"]),
        ("ops", []),
        ("ops export calls.zip --since 30d --no-audio", []),
        ('PARAMETERS="LogLevel=DEBUG" make locale', ["locale"]),
        ('make deploy STACK=calls PARAMETERS="LogLevel=DEBUG"', []),
    ],
)
def test_a_command_that_does_not_exist_is_found(line: str, unknown: list[str]) -> None:
    assert unknown_words(line) + unknown_target(line) == unknown


# ---------------------------------------------------------------- the signature

MINUTE = timedelta(minutes=1)
NEEDS_TOOLS = pytest.mark.skipif(not (shutil.which("curl") and shutil.which("openssl")), reason="no curl or openssl")


class Endpoint(BaseHTTPRequestHandler):
    """Answers as ingest does: 200 to what is signed with the secret, 401 to all else."""

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        try:
            verify(body, self.headers["ElevenLabs-Signature"], [SECRET], datetime.now(timezone.utc), MINUTE, MINUTE)
            self.send_response(200)
        except SignatureError:
            self.send_response(401)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


def signing_commands() -> str:
    """The lines of docs/security.md that sign a body and send it; they ask for the key."""
    (block,) = (block for _, block in FENCE.findall((ROOT / "docs" / "security.md").read_text()) if "openssl" in block)
    return block


def answer_to(commands: str, folder: Path) -> str:
    """The first line of the answer to a webhook that these commands sign and send."""
    (folder / "payload.json").write_text('{"type": "post_call_transcription", "data": "\\u00e9\u00e9\\n "}\n')
    with HTTPServer(("127.0.0.1", 0), Endpoint) as server:
        Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}/post-call"
        script = re.sub(r"^URL=.*$", f"URL={url}", commands, flags=re.MULTILINE)
        environment = {"PATH": os.environ["PATH"], "NO_PROXY": "*"}
        ran = subprocess.run(
            ["bash", "-c", script], input=f"{SECRET}\n", cwd=folder, env=environment, capture_output=True, text=True,
            timeout=30, check=True,
        )  # fmt: skip
        server.shutdown()
    return ran.stdout.splitlines()[0]


@NEEDS_TOOLS
def test_the_commands_that_sign_a_webhook_are_accepted_as_they_stand_in_the_documentation(tmp_path: Path) -> None:
    assert answer_to(signing_commands(), tmp_path).split()[1] == "200"


@NEEDS_TOOLS
def test_a_signature_over_the_body_alone_is_refused(tmp_path: Path) -> None:
    without_time = signing_commands().replace("printf '%s.' \"$t\"; ", "")

    assert without_time != signing_commands()
    assert answer_to(without_time, tmp_path).split()[1] == "401"


# ---------------------------------------------------------------- secrets

SECRETS = "|".join(name for name, each in read_template(ROOT / "template.yaml").items() if each.is_secret)
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
    found = {path.name: lines for path in (*PAGES, *SPEAKS) if (lines := list(told_secrets(path.read_text())))}

    assert found == {}
