"""Shows the results of the demo, in a terminal or in a file."""

import sys
import textwrap
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text
from rich.tree import Tree

from scripts.demo.calls import SampleCall, SampleCalls
from scripts.demo.scenes import Answer, Fetch, Found, Kept, Outcome, fetches
from shared.observability import mask

WIDTH = 100
SHOWN = ("folder", "external_number", "started_at", "duration_secs", "summary", "json_key", "mp3_key", "audio")


def open_console() -> Console:
    """A console of a fixed width, or of the terminal's if that is narrower. No emoji: ARNs contain `:secret:`."""
    console = Console(highlight=False, emoji=False)
    console.width = min(console.width, WIDTH) if sys.stdout.isatty() else WIDTH
    return console


def show(console: Console, bucket_name: str, calls: SampleCalls, outcome: Outcome) -> None:
    """Show all results, each under its heading."""
    kept = outcome.after
    show_answers(console, outcome.answers)
    show_fetches(console, fetches(calls), kept, outcome.reconciled)
    show_bucket(console, bucket_name, kept)
    show_record(console, calls.harbour, kept)
    show_memories(console, outcome.found)
    show_queues(console, kept)


def heading(console: Console, number: int, text: str) -> None:
    console.print(f"\n[bold cyan]{number}. {text}[/]")


def plain_table(*columns: str) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim", padding=(0, 2, 0, 0), show_header=any(columns))
    for column in columns:
        right = column in ("Size", "HTTP", "Score", "Messages")
        table.add_column(column, justify="right" if right else "left", no_wrap=right)
    return table


def show_answers(console: Console, answers: Iterable[Answer]) -> None:
    heading(console, 1, "Webhooks and their answers")
    table, scene = plain_table("Scene", "Webhook", "Size", "HTTP", "What it means"), ""
    for answer in answers:
        webhook = answer.webhook
        name = "" if webhook.scene == scene else webhook.scene
        colour = "green" if answer.status == webhook.status else "bold red"
        table.add_row(name, webhook.what, size(len(webhook.body)), f"[{colour}]{answer.status}[/]", webhook.then)
        scene = webhook.scene
    console.print(table)


def show_fetches(console: Console, expected: Iterable[Fetch], kept: Kept, reconciled: Mapping[str, Any]) -> None:
    heading(console, 2, "Fetched from ElevenLabs' API, because no webhook came")
    table, scene = plain_table("Scene", "Fetched", "Size", "What it means"), ""
    for fetch in expected:
        mark = "[green]✓[/]" if fetch.staged in kept.staged_names else "[bold red]✗[/]"
        name = "" if fetch.scene == scene else fetch.scene
        table.add_row(name, f"{mark} {fetch.what}", size(fetch.size), fetch.then)
        scene = fetch.scene
    console.print(table)
    listed, missing = (reconciled.get(name, "-") for name in ("listed", "missing_calls"))
    console.print(
        f"[dim]The hourly run, started now: {listed} calls in ElevenLabs' list of two days, {missing} missing[/]"
    )


def show_bucket(console: Console, bucket_name: str, kept: Kept) -> None:
    heading(console, 3, "The bucket: a folder for each caller")
    tree = Tree(Text(f"s3://{bucket_name}"), guide_style="dim")
    folders: dict[str, Tree] = {}
    for key, content in sorted(kept.finals.items()):
        folder, _, name = key.partition("/")
        branch = folders.get(folder) or folders.setdefault(folder, tree.add(f"[bold]{folder}/[/]"))
        branch.add(f"{name:<26}[dim]{size(len(content)):>8}, {len(kept.versions[key])} version[/]")
    tagged = sum(kept.staged.values())
    tree.add(f"[bold]staging/[/]  [dim]{len(kept.staged)} bodies as received, {tagged} tagged as archived[/]")
    console.print(tree)


def show_record(console: Console, call: SampleCall, kept: Kept) -> None:
    heading(console, 4, "The record of the first call, and its memories")
    record = kept.records.get((call.conversation_id, "call"), {})
    table = plain_table("", "")
    for name in SHOWN:
        table.add_row(f"[dim]{name}[/]", Text(str(record.get(name, "-"))))
    for kind, line in receipts(call, kept.records):
        table.add_row(f"[dim]memory#{kind}[/]", Text(line))
    console.print(table)
    console.print(f"[dim]In logs the number is masked: {mask(call.number or '')}[/]")


def receipts(call: SampleCall, records: Mapping[tuple[str, str], Mapping[str, Any]]) -> Iterator[tuple[str, str]]:
    """Mem0's answers as the ledger has them, a line for each of the call's two memories."""
    for kind in ("factual", "semantic"):
        entry = records.get((call.conversation_id, f"memory#{kind}"), {})
        ids = entry.get("memory_ids", [])
        first = f", {ids[0]}" if ids else ""
        more = f" and {len(ids) - 1} more" if len(ids) > 1 else ""
        yield kind, f"{entry.get('state', '-')} at {entry.get('done_at', '-')[:19]}Z: {len(ids)} in Mem0{first}{more}"


def show_memories(console: Console, found: Iterable[Found]) -> None:
    heading(console, 5, "Questions to Mem0")
    table = plain_table("User", "Question", "Best memory", "Score")
    for answer in found:
        memory = textwrap.shorten(answer.memory, 90, placeholder=" ...")
        table.add_row(answer.question.user_id, answer.question.text, Text(memory), f"{answer.score:.2f}")
    console.print(table)


def show_queues(console: Console, kept: Kept) -> None:
    heading(console, 6, "Messages left in the queues and dead-letter queues")
    console.print("   ".join(f"{name} [bold]{messages}[/]" for name, messages in kept.messages.items()))


def conclude(console: Console, failures: Sequence[str], seconds: float) -> None:
    console.print()
    if failures:
        console.print(f"[bold red]The demo failed[/] ({seconds:.0f} s):")
        for failure in failures:
            console.print(Text(f"- {failure}"))
        return
    console.print(
        f"[bold green]Everything is correct[/] ({seconds:.0f} s): each call is stored once, complete, and in Mem0."
    )
    console.print("Next: [bold]make local[/] starts this stack for your own requests. For AWS, see docs/deploy.md.")


def size(count: int) -> str:
    """A number of bytes with its unit, in powers of ten, as in S3's prices."""
    for unit, least in (("MB", 1_000_000), ("KB", 1_000)):
        if count >= least:
            return f"{count / least:.1f} {unit}"
    return f"{count} B"
