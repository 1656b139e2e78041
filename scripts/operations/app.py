"""The operators' tool. Data goes to stdout, progress to stderr.

Exit codes: 0 all is well, 1 something is wrong, 2 the command cannot be done as it was typed, 130 interrupted.
"""

import json
import sys
from collections.abc import Sequence
from io import StringIO
from logging import StreamHandler
from typing import Annotated, Any, cast

import typer

from scripts.aws_session import OpsError, explained
from scripts.operations.browse import browse
from scripts.operations.canary import canary
from scripts.operations.dlq import app as dlq
from scripts.operations.erase import erase
from scripts.operations.export import export
from scripts.operations.reading import calls, show
from scripts.operations.reconcile import backfill, reconcile
from scripts.operations.reindex import reindex
from scripts.operations.replay import replay
from scripts.operations.rotate import rotate_secret
from scripts.operations.search import search
from scripts.operations.send import send
from scripts.operations.status import status
from scripts.operations.verify import verify
from scripts.operations.view import INTERRUPTED, View
from scripts.terminal import PlainStream, plain
from shared.aws_errors import AwsError
from shared.errors import AgenticMemoryError, StorageError
from shared.observability import logger

WAS_INTERRUPTED = "Interrupted. Run the same command again: it does not repeat what is done."

app = typer.Typer(
    name="ops", help=__doc__, no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False,
    rich_markup_mode=None, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)  # fmt: skip


@app.callback(epilog="You can put --stack, --local and --json anywhere in the command.")
def choose(
    context: typer.Context,
    stack: Annotated[str | None, typer.Option(help="Name of the stack on AWS. Default: agentic-memory.")] = None,
    local: Annotated[bool, typer.Option("--local", help="Work on the stack that `make local` runs.")] = False,
    as_json: Annotated[
        bool,
        typer.Option("--json", help='Print one JSON document, for programs. An error is {"error": ..., "code": ...}.'),
    ] = False,
) -> None:
    if local and stack:
        raise OpsError("--local and --stack name two stacks. Use only one of them.")
    context.obj = View(stack, local, as_json)


app.command()(browse)
app.command()(calls)
app.command()(search)
app.command()(show)
app.command()(reconcile)
app.command()(status)
app.command()(verify)
app.command()(replay)
app.command()(backfill)
app.command()(send)
app.command()(erase)
app.command()(canary)
app.command()(rotate_secret)
app.command()(export)
app.command()(reindex)
app.add_typer(dlq, name="dlq")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; no error ends in a stack trace."""
    cast(StreamHandler[Any], logger.registered_handler).stream = PlainStream(sys.stderr)  # stdout is for data
    words = global_options_first(list(sys.argv[1:] if arguments is None else arguments))
    as_json = "--json" in words
    try:
        result = app(words, prog_name="ops", standalone_mode=False)
    except typer.TyperException as error:
        return fail(error.format_message(), 2, as_json=True) if as_json else show_usage(error)
    except OpsError as error:
        return fail(str(error), error.code, as_json=as_json)
    except (*AwsError, AgenticMemoryError) as error:
        failed = failure(error)
        return fail(str(failed), failed.code, as_json=as_json)
    if result == INTERRUPTED:  # what typer makes of Ctrl-C
        fail(WAS_INTERRUPTED, INTERRUPTED, as_json=as_json)
    return int(result or 0)


def failure(error: BaseException) -> OpsError:
    """An error of AWS, which one of ours may stand for, or another of ours."""
    cause = error.__context__ if isinstance(error, StorageError) else error
    return explained(cause) if isinstance(cause, AwsError) else OpsError(f"{str(error).rstrip('.')}.", code=1)


def fail(text: str, code: int, *, as_json: bool) -> int:
    """Show an error, as text on stderr or as JSON on stdout; returns the exit code."""
    if as_json:
        print(json.dumps({"error": text, "code": code}, indent=2))
    else:
        print(plain(text), file=sys.stderr)
    return code


def show_usage(error: typer.TyperException) -> int:
    """How the command is written, on stderr; returns the exit code."""
    usage = StringIO()
    cast(Any, error).show(usage)
    print(plain(usage.getvalue(), keep="\n"), end="", file=sys.stderr)
    return 2


def global_options_first(words: list[str]) -> list[str]:
    """The same words with the global options in front of the command, where click looks for them."""
    first, rest = [], []
    remaining = iter(words)
    for word in remaining:
        if word in ("--local", "--json") or word.startswith("--stack="):
            first.append(word)
        elif word == "--stack":
            first += [word, *([following] if (following := next(remaining, None)) is not None else [])]
        else:
            rest.append(word)
    return first + rest
