"""`ops report`: the numbers of a month, as a page to read, print and send."""

from datetime import datetime, timezone
from pathlib import Path
from typing import Annotated, Any

import typer

from scripts.aws_session import OpsError
from scripts.operations.reports.cost import aws_cost
from scripts.operations.reports.month import Month, read_month
from scripts.operations.reports.numbers import completeness, numbers
from scripts.operations.reports.reading import Calls, Reading
from scripts.operations.view import View
from scripts.private_files import open_private
from shared.times import utc


def report(
    context: typer.Context,
    month: Annotated[
        str, typer.Option(metavar="MONTH", help="Such as 2026-10. Default: the last month that is over.")
    ] = "",
    output: Annotated[
        Path | None, typer.Option(metavar="FILE", help="File for the page. Default: report-MONTH.html.")
    ] = None,
    agent: Annotated[
        list[str] | None, typer.Option(help="Only calls of this agent, by its id. Can be repeated.")
    ] = None,
    zone: Annotated[
        str, typer.Option("--timezone", metavar="ZONE", help="For days, hours and the month, such as Europe/Berlin.")
    ] = "UTC",
    elevenlabs: Annotated[
        bool, typer.Option("--elevenlabs", help="Compare with ElevenLabs' list of calls: are any missing?")
    ] = False,
    force: Annotated[bool, typer.Option("--force", help="Overwrite the file.")] = False,
) -> None:
    """Write the report of a month: calls, outcomes, evaluation, callers, tools, hours, cost, completeness.

    The report is one HTML file that needs no network. Open it in a browser, print it, or send it: it has no phone
    numbers, and no words of a call. --json prints the same numbers, and writes no file unless --output is given.

    The command reads the JSON of each call of the month. Example: ops report --month 2026-10
    """
    view: View = context.obj
    now = datetime.now(timezone.utc)
    chosen = read_month(month, zone, now)
    file = output or (None if view.as_json else Path(f"report-{chosen}.html"))
    if file:
        check_place(file, force=force)
    calls = Reading(view, chosen, frozenset(agent or ()), now).read(elevenlabs=elevenlabs)
    found = describe(view.stack.name, chosen, calls, sorted(agent or ()), now)
    if file:
        write(file, found, force=force)
    if view.as_json:
        view.print_json(found)
    else:
        shown = {name: each["value"] for name, each in found["headline"].items()}
        view.show(shown | {"missing": found["completeness"]["missing"], "file": file}, f"Report of {chosen.name}")


def describe(stack: str, month: Month, calls: Calls, agents: list[str], now: datetime) -> dict[str, Any]:
    """All that a report says."""
    credits = sum(each.cost or 0 for each in calls.month)
    return {
        "report": "month", "version": 1, "stack": stack, "month": str(month), "name": month.name,
        "name_before": month.before().name, "month_before": f"{month.before().first:%B}",
        "timezone": month.zone.key, "made_at": utc(now), "is_complete": now >= month.end,
        "until": utc(min(now, month.end)), "chosen_agents": agents,
        **numbers(month, calls.month, calls.before, calls.known_callers),
        "completeness": completeness(calls.month, calls.missing, is_compared=calls.is_compared),
        "cost": {
            "credits": credits,
            "credits_per_call": round(credits / len(calls.month), 1) if calls.month else None,
            "aws": aws_cost(calls.month),
        },
    }  # fmt: skip


def check_place(file: Path, *, force: bool) -> None:
    """Make sure that the file can be written, before the archive is read. Raises OpsError."""
    if file.is_dir():
        raise OpsError(f"{file} is a folder. Name a file.")
    if not file.parent.is_dir():
        raise OpsError(f"There is no folder {file.parent}.")
    if not force and (file.exists() or file.is_symlink()):
        raise OpsError(f"{file} exists already. Name another file with --output, or overwrite it with --force.")


def write(file: Path, found: dict[str, Any], *, force: bool) -> None:
    """Raises OpsError."""
    from scripts.operations.reports.page import render  # Jinja takes a moment, and other commands do not need it

    page = render(found)
    try:
        with open_private(file, must_be_new=not force) as opened:
            opened.write(page)
    except OSError as error:
        raise OpsError(f"{file} cannot be written: {error.strerror}.") from None
