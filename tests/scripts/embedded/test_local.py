"""`make local`: its settings, its outputs, and how it ends."""

import http.client
import io
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest

from scripts.aws_session import OpsError
from scripts.deploy.parameters import split
from scripts.embedded.aws import group_exists
from scripts.embedded.deployment import TEMPLATE
from scripts.embedded.local import SettingError, ask_for_secrets, read_demo_calls, read_port
from tests.processes import type_hidden
from tests.scripts.embedded.small_project import ROOT, post, wait_until
from tests.scripts.embedded.small_project import project as project


class Cli:
    """`python -m scripts.embedded.local` in a process of its own, with its temporary files in a folder of its own."""

    def __init__(self, template: Path, folder: Path, stdin: str = "", **environment: str) -> None:
        self.folder = folder
        self.outputs = folder / "out" / "outputs.json"
        command = ["-m", "scripts.embedded.local", "--template", str(template), "--outputs", str(self.outputs)]
        self.process = subprocess.Popen(
            [sys.executable, *command],
            cwd=ROOT,
            env=os.environ | {"TMPDIR": str(folder), "LOCAL_PORT": str(unused_port())} | environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdin is not None
        self.process.stdin.write(stdin)
        self.process.stdin.close()
        self.process.stdin = None  # so that `communicate` does not flush it

    def wait_for_outputs(self) -> dict[str, str]:
        wait_until(lambda: self.outputs.exists() or self.process.poll() is not None)
        return dict(json.loads(self.outputs.read_text()))

    def end(self, number: int | None = None) -> tuple[int, str]:
        """Exit code and what it said on stderr, after the signal if there is one."""
        if number is not None:
            self.process.send_signal(number)
        _, said = self.process.communicate(timeout=30)
        return self.process.returncode, said

    def server(self) -> int:
        (pid_file,) = self.folder.glob("embedded-aws-*/ministack-*.pid")
        return int(pid_file.read_text())

    def leftovers(self) -> list[Path]:
        return list(self.folder.glob("embedded-aws-*"))


@pytest.fixture
def start(project: Path, tmp_path: Path) -> Iterator[Callable[..., Cli]]:
    started: list[Cli] = []

    def run(**environment: str) -> Cli:
        started.append(Cli(project, tmp_path, **environment))
        return started[-1]

    yield run
    for cli in started:
        if cli.process.poll() is None:
            cli.end(signal.SIGKILL)


def unused_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.mark.parametrize(
    ("text", "expected"),
    [("", {}), ("A=1 B=2", {"A": "1", "B": "2"}), ("A='a b' B=x=y", {"A": "a b", "B": "x=y"}), ("A=", {"A": ""})],
    ids=["none", "two", "quotes and equals sign", "empty value"],
)
def test_parameters_are_read_as_a_shell_would(text: str, expected: dict[str, str]) -> None:
    assert split(text) == expected


@pytest.mark.parametrize("text", ["A", "=1", "A='"])
def test_parameters_that_cannot_be_read_are_refused(text: str) -> None:
    with pytest.raises(OpsError, match="PARAMETERS"):
        split(text)


def test_a_secret_parameter_that_says_ask_is_read_from_standard_input(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO("sk_1=2\nnot read\n"))

    asked = ask_for_secrets({"ApiKey": "ask", "BucketName": "ask"}, project)

    assert asked == {"ApiKey": "sk_1=2", "BucketName": "ask"}


@pytest.mark.parametrize("given", ["", "\n"], ids=["end", "empty line"])
def test_a_secret_parameter_that_is_asked_for_in_vain_is_named(
    project: Path, monkeypatch: pytest.MonkeyPatch, given: str
) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO(given))

    with pytest.raises(OpsError, match=r"^ApiKey=ask: nothing was given\.$"):
        ask_for_secrets({"ApiKey": "ask"}, project)


def test_a_secret_that_is_typed_is_not_shown() -> None:
    code = (
        "from scripts.embedded.local import TEMPLATE, ask_for_secrets\n"
        "print(ask_for_secrets({'Mem0ApiKey': 'ask', 'LogLevel': 'DEBUG'}, TEMPLATE))"
    )

    shown, came = type_hidden(code, b"m0-typed\n")

    assert shown.startswith(b"Mem0ApiKey: ")
    assert b"m0-typed" not in shown
    assert came == "{'Mem0ApiKey': 'm0-typed', 'LogLevel': 'DEBUG'}"


@pytest.mark.parametrize("text", ["0", "65536", "-1", "http"])
def test_a_port_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(SettingError, match="LOCAL_PORT"):
        read_port({"LOCAL_PORT": text})


@pytest.mark.parametrize(("text", "expected"), [("", True), ("yes", True), ("no", False)])
def test_the_stack_has_the_demos_calls_unless_somebody_says_no(text: str, expected: bool) -> None:
    assert read_demo_calls({"DEMO_CALLS": text}) is expected


def test_a_wrong_answer_about_the_demos_calls_is_refused() -> None:
    with pytest.raises(SettingError, match="DEMO_CALLS is yes or no, not 'false'"):
        read_demo_calls({"DEMO_CALLS": "false"})


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=["SIGTERM", "Ctrl-C"])
def test_outputs_appear_when_the_stack_answers_and_nothing_is_left_after_a_signal(
    start: Callable[..., Cli], number: int
) -> None:
    cli = start(AWS_PROFILE="missing")
    outputs = cli.wait_for_outputs()
    assert post(outputs["PostCallUrl"], "allowed/a") == (200, "stored no profile")
    server = cli.server()

    code, said = cli.end(number)

    assert (code, cli.outputs.exists(), cli.leftovers()) == (0, False, []), said
    assert not group_exists(server)


@pytest.mark.parametrize(("before", "said"), [("SIG_DFL", ""), ("SIG_IGN", "still up\n")], ids=["else", "nohup"])
def test_a_run_under_nohup_outlives_its_terminal(before: str, said: str) -> None:
    code = (
        f"import os, signal; signal.signal(signal.SIGHUP, signal.{before})\n"
        "from scripts.embedded.local import stop_on_signals\n"
        "stop_on_signals(); os.kill(os.getpid(), signal.SIGHUP); print('still up')"
    )

    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60)

    assert done.stdout == said


def test_a_killed_run_leaves_neither_files_nor_functions_at_work(start: Callable[..., Cli]) -> None:
    cli = start()
    url = urlsplit(cli.wait_for_outputs()["PostCallUrl"])
    server = cli.server()
    with closing(http.client.HTTPConnection(url.netloc)) as caller:  # waits for no answer
        caller.request("POST", url.path, "allowed/asleep", {"Content-Type": "text/plain"})
        wait_until(lambda: any(cli.folder.glob("embedded-aws-*/asleep")))

        cli.end(signal.SIGKILL)

    wait_until(lambda: not group_exists(server))
    assert cli.leftovers() == []


def test_a_secret_reaches_the_stack_without_being_in_the_command_or_its_environment(start: Callable[..., Cli]) -> None:
    cli = start(stdin="sk_typed\n", PARAMETERS="ApiKey=ask")

    assert cli.wait_for_outputs()["ApiKey"] == "sk_typed"


def test_an_emulator_that_dies_ends_the_run(start: Callable[..., Cli]) -> None:
    cli = start()
    cli.wait_for_outputs()

    os.kill(cli.server(), signal.SIGKILL)
    code, said = cli.end()

    assert (code, cli.outputs.exists(), cli.leftovers()) == (1, False, [])
    assert "The embedded AWS stopped." in said


def test_a_busy_port_ends_the_run_with_a_sentence(start: Callable[..., Cli]) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]

        code, said = start(LOCAL_PORT=str(port)).end()

    assert code == 2
    assert said.strip().splitlines() == [f"Port {port} is in use or not allowed: choose another one with LOCAL_PORT."]


def test_a_second_run_is_refused_names_the_first_and_leaves_its_outputs(start: Callable[..., Cli]) -> None:
    first = start()
    outputs = first.wait_for_outputs()

    code, said = start().end()

    assert code == 2
    assert said.strip().splitlines() == [
        f"make local runs already: process {first.process.pid}, {outputs['AwsEndpointUrl']}. "
        "Use it, or end it with Ctrl-C before you start another one."
    ]
    assert json.loads(first.outputs.read_text()) == outputs
    assert post(outputs["PostCallUrl"], "allowed/still-up") == (200, "stored no profile")


def test_a_run_that_was_killed_does_not_keep_others_from_starting(start: Callable[..., Cli]) -> None:
    killed = start()
    first = killed.wait_for_outputs()
    killed.end(signal.SIGKILL)

    assert killed.outputs.exists()
    again = start()
    wait_until(lambda: again.outputs.exists() and json.loads(again.outputs.read_text()) != first)

    assert again.end(signal.SIGTERM)[0] == 0
    assert not again.outputs.exists()


def test_a_wrong_parameter_ends_the_run_without_outputs_even_those_of_a_killed_run(
    start: Callable[..., Cli], tmp_path: Path
) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "outputs.json").write_text("{}")
    cli = start(PARAMETERS="Buckt=x")

    code, said = cli.end()

    assert (code, cli.outputs.exists(), cli.leftovers()) == (2, False, [])
    assert "No such parameter: Buckt." in said


def test_a_wrong_value_of_a_constant_ends_the_run_with_a_sentence(start: Callable[..., Cli]) -> None:
    code, said = start(PARAMETERS="VisibilitySeconds=soon").end()

    assert code == 2
    assert said.strip().splitlines()[-1] == "VisibilitySeconds must be a whole number, not 'soon'."


def test_the_page_has_the_demos_calls_and_the_question_about_the_dog_can_be_heard(tmp_path: Path) -> None:
    cli = Cli(TEMPLATE, tmp_path)
    try:
        page = cli.wait_for_outputs()["PageUrl"]
        wait_until(
            lambda: len(calls(page)) == 5 and {each["audio"] for each in calls(page, "?text=dog")} == {"archived"}
        )
        (call,) = calls(page, "?text=dog")
        turns = httpx.get(f"{page}api/calls/{call['conversation_id']}/transcript").json()["turns"]
        (second,) = (each["at_secs"] for each in turns if "old dog" in (each["message"] or ""))
        recording = httpx.get(f"{page}api/calls/{call['conversation_id']}/audio").json()["url"]
        frame = int(second / 0.036) * 108
        sound = httpx.get(recording, headers={"Range": f"bytes={frame}-{frame + 20_000}"})
        title = httpx.get(page).text
    finally:
        code, said = cli.end(signal.SIGTERM)

    assert "<title>" in title
    assert (sound.status_code, sound.headers["Content-Type"]) == (206, "audio/mpeg")
    assert (ROOT / "scripts/demo/sound/ask.mp3").read_bytes() in sound.content
    assert (code, page in said) == (0, True)


def test_without_the_demos_calls_the_page_is_empty(tmp_path: Path) -> None:
    cli = Cli(TEMPLATE, tmp_path, DEMO_CALLS="no")
    try:
        found = calls(cli.wait_for_outputs()["PageUrl"])
    finally:
        cli.end(signal.SIGTERM)

    assert found == []


def calls(page: str, query: str = "") -> list[dict[str, str]]:
    answer = httpx.get(f"{page}api/calls{query}", timeout=30)
    return list(answer.json()["calls"]) if answer.status_code == 200 else []
