"""The SQL over the rows under `text/`: what Trino, which is Athena, and DuckDB, which stands in for it, both know.

Only ids, ISO days, whole numbers and folded words get into it. Every column is cast: DuckDB guesses their types.
"""

import re
from collections.abc import Collection, Iterable, Sequence
from typing import NamedTuple

from shared.keys import is_id
from shared.texts import CALL

MOST_TURNS = 1000  # of a search: more than a page, because some may turn out to be erased or outdated
MOST_SUMS = 20_000  # days and agents in a statistic
_DAY = re.compile(r"\d{4}-\d\d-\d\d", re.ASCII)
_MARKS = set("'\"\\`;\x00")  # none of them is in folded words


class Place(NamedTuple):
    """A place in the list of all turns: after this turn. They are sorted by `started`, newest first, then id, turn."""

    started: int
    conversation_id: str = ""
    turn: int = CALL


def search_turns(
    table: str, needles: Sequence[str], days: tuple[str, str], since: int, after: Place, *,
    role: str | None = None, agents: Collection[str] | None = None,
) -> str:  # fmt: skip
    """The next turns after a place whose words have all the needles, in these days and not before `since`.

    A turn that is in several files is found once for each version of its call.
    """
    conditions = [
        f"CAST(started AS bigint) >= {int(since)}", f"CAST(turn AS integer) > {CALL}", _after(after),
        *([f"CAST(role AS varchar) = {_id(role)}"] if role else []), *_is_of(agents),
        *(f"strpos(CAST(words AS varchar), {_words(needle)}) > 0" for needle in needles),
    ]  # fmt: skip
    return (
        "SELECT DISTINCT CAST(conversation_id AS varchar) AS conversation_id, CAST(turn AS integer) AS turn,"
        " CAST(started AS bigint) AS started, CAST(version AS varchar) AS version"
        f" FROM {_table(table)} WHERE {_between(days)} AND {' AND '.join(conditions)}"
        f" ORDER BY started DESC, conversation_id, turn, version LIMIT {MOST_TURNS}"
    )


def sum_calls(table: str, days: tuple[str, str], since: int, until: int, agents: Collection[str] | None = None) -> str:
    """Sums for each day and agent, newest day first. Of each call, only its newest version in these days counts."""
    newest = (
        "SELECT day, CAST(agent_id AS varchar) AS agent_id, CAST(started AS bigint) AS started,"
        " CAST(seconds AS bigint) AS seconds, CAST(outcome AS varchar) AS outcome,"
        " CAST(audio AS varchar) AS audio, CAST(cost AS bigint) AS cost,"
        " row_number() OVER (PARTITION BY CAST(conversation_id AS varchar)"
        " ORDER BY CAST(version AS varchar) DESC, day DESC) AS place"
        f" FROM {_table(table)} WHERE {_between(days)} AND CAST(turn AS integer) = {CALL}"
    )
    conditions = ["place = 1", f"started BETWEEN {int(since)} AND {int(until)}", *_is_of(agents)]
    return (
        "SELECT CAST(day AS varchar) AS day, agent_id, count(*) AS calls, sum(seconds) AS seconds,"
        " count(seconds) AS timed, count(CASE WHEN outcome = 'success' THEN 1 END) AS success,"
        " count(CASE WHEN outcome = 'failure' THEN 1 END) AS failure,"
        " count(CASE WHEN audio IN ('archived', 'pending') THEN 1 END) AS with_audio, sum(cost) AS cost"
        f" FROM ({newest}) AS calls WHERE {' AND '.join(conditions)}"
        f" GROUP BY day, agent_id ORDER BY day DESC, agent_id LIMIT {MOST_SUMS + 1}"
    )


def _after(place: Place) -> str:
    started, id = f"CAST(started AS bigint) {{}} {int(place.started)}", "CAST(conversation_id AS varchar) {} {}"
    if not place.conversation_id:
        return started.format("<=")
    same, named = started.format("="), _id(place.conversation_id)
    later = f"{id.format('=', named)} AND CAST(turn AS integer) > {int(place.turn)}"
    return f"({started.format('<')} OR {same} AND ({id.format('>', named)} OR {later}))"


def _between(days: tuple[str, str]) -> str:
    """Without a cast: Athena reads only the folders of these days."""
    first, last = days
    if not (_DAY.fullmatch(first) and _DAY.fullmatch(last)):
        raise ValueError("not a day")
    return f"day BETWEEN '{first}' AND '{last}'"


def _is_of(agents: Collection[str] | None) -> Iterable[str]:
    if agents is not None:
        yield f"CAST(agent_id AS varchar) IN ({', '.join(_id(agent) for agent in sorted(agents))})"


def _id(text: str) -> str:
    if not is_id(text):
        raise ValueError("not an id")
    return f"'{text}'"


def _words(needle: str) -> str:
    if _MARKS & set(needle):
        raise ValueError("not folded words")
    return f"'{needle}'"


def _table(name: str) -> str:
    if not is_id(name):
        raise ValueError("not the name of a table")
    return f'"{name}"'
