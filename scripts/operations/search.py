"""`ops search`: find what was said, on the terminal."""

from typing import Annotated, Any

import typer

from scripts.api_client import Api
from scripts.operations.reading import api_of, clock, read
from scripts.operations.view import View, parse_time, several
from shared.times import utc

COLUMNS = {
    "started_at": "Call of", "at": "At", "caller": "Caller", "role": "Role", "conversation_id": "Conversation",
    "message": "Words",
}  # fmt: skip
MOST_ANSWERS = 200  # of the API: a long search is answered in parts
Hit = dict[str, Any]


def search(
    context: typer.Context,
    words: Annotated[str, typer.Argument(help='Words of one turn, in any order. "In quotes": in this order.')],
    role: Annotated[str, typer.Option(help="user or agent: only what was said by this side.")] = "",
    agent: Annotated[list[str] | None, typer.Option(help="Id of an agent. Can be repeated.")] = None,
    since: Annotated[str, typer.Option("--since", "--from", help="Calls from this time on, such as 90d.")] = "",
    until: Annotated[str, typer.Option("--until", "--to", help="Calls before this time.")] = "",
    limit: Annotated[int, typer.Option(min=1, max=1000, help="How many turns to show at most.")] = 20,
) -> None:
    """Find what was said in calls, newest first.

    Example: ops search "refund blender" --role user --since 90d
    """
    view: View = context.obj
    filters = {
        "q": words, "role": role, "agent": agent, "from": since and utc(parse_time(since)),
        "to": until and utc(parse_time(until)),
    }  # fmt: skip
    hits, searched, has_more = find(view, api_of(view.stack), filters, limit)
    title = several(len(hits), "turn", "turns") if hits else "Nothing like this was said."
    advice = ["To read a call: ops show ID"] if hits else []
    if has_more:
        advice += ["There may be older turns. Raise --limit, or look before a time with --until."]
    if view.as_json:
        following = {"next": view.complete("\n".join(advice))} if advice else {}
        view.print_json({"title": title, "rows": hits, "searched": searched} | following)
        return
    view.table([as_row(hit) for hit in hits], COLUMNS, title, empty=title)
    view.console.print(f"\nSearched: {searched['from']} to {searched['to']}, {size_of(searched['bytes'])}")
    for each in advice:
        view.paragraph(view.complete(each), first="Next: ")


def find(view: View, api: Api, filters: dict[str, Any], limit: int) -> tuple[list[Hit], dict[str, Any], bool]:
    """The newest hits, what was searched for them, and whether there may be more."""
    hits: list[Hit] = []
    searched: dict[str, Any] = {}
    cursor = None
    with view.progress.status("Searching ...") as status:
        for _ in range(MOST_ANSWERS):
            page = read(api, "/search", filters | {"limit": min(50, limit - len(hits)), "cursor": cursor})
            hits, cursor = hits + page["hits"], page["next"]
            searched = page["searched"] | {
                "to": searched.get("to", page["searched"]["to"]),
                "bytes": searched.get("bytes", 0) + page["searched"]["bytes"],
            }
            if cursor is None or len(hits) >= limit:
                break
            status.update(f"Searched back to {searched['from']}: {several(len(hits), 'turn', 'turns')} ...")
    return hits, searched, cursor is not None


def as_row(hit: Hit) -> Hit:
    """A hit as people read it; in place of words that cannot be read, the reason."""
    return hit | {"at": clock(hit["at_secs"]).strip(), "message": hit["message"] or hit["reason"]}


def size_of(count: int) -> str:
    return f"{count / 1e6:,.1f} MB read" if count >= 100_000 else f"{count:,} bytes read"
