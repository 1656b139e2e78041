"""The SQL is one that Trino (Athena) and DuckDB both know, and it finds what a plain loop over the rows finds."""

from collections import defaultdict
from collections.abc import Iterator
from functools import partial
from itertools import groupby
from operator import attrgetter
from pathlib import Path
from typing import Any

import pytest
import sqlglot
from hypothesis import given, settings
from hypothesis import strategies as st

from api.sql import MOST_SUMS, Place, search_turns, sum_calls
from shared.texts import CALL, Row, fold, needles, write_rows
from tests.athena_stand_in import TABLE, run

DAYS = ["2026-10-30", "2026-10-31", "2026-11-01"]
STARTS = dict(zip(DAYS, (1793318400, 1793404800, 1793491200), strict=True))
SAID = ["Where is my refund?", "A blender refund, please", "I am I", "退款 please", "Straße 4711", "O'Brien", "..."]
QUERIES = ["refund", "blender refund", '"my refund"', "i", "退款", "strasse", "o'brien", "4711 please", "zebra", "ça"]
AGENTS = ["agent_1", "agent_2", "agent-3"]
day_spans = st.tuples(st.sampled_from(DAYS), st.sampled_from(DAYS)).map(sorted).map(tuple)
seconds = st.sampled_from([STARTS[day] + each for day in DAYS for each in (0, 1, 86399)])
some_agents = st.none() | st.sets(st.sampled_from(AGENTS), min_size=1)
calls = st.builds(
    dict, conversation_id=st.sampled_from(["conv_a", "conv_B", "conv-c"]), version=st.sampled_from(["1-1", "1-2"]),
    started=seconds, agent_id=st.none() | st.sampled_from(AGENTS), caller=st.none(),
)  # fmt: skip
turn_rows = st.builds(
    lambda call, turn, role, said: Row(**call, turn=turn, role=role, message=said, words=fold(said) or None),
    calls, st.integers(0, 3), st.sampled_from(["user", "agent"]), st.sampled_from(SAID),
)  # fmt: skip
call_rows = st.builds(
    lambda call, seconds, outcome, audio, cost: Row(
        **call, turn=CALL, role="call", seconds=seconds, outcome=outcome, audio=audio, cost=cost),
    calls, st.none() | st.integers(0, 9000), st.sampled_from([None, "success", "failure", "unknown"]),
    st.sampled_from(["archived", "pending", "none"]), st.none() | st.integers(0, 500),
)  # fmt: skip
rows_of_files = st.lists(turn_rows | call_rows, min_size=1, max_size=25)
places = seconds.map(Place) | st.builds(
    Place, seconds, st.sampled_from(["conv_a", "conv_B", "conv-c", "a"]), st.integers(-1, 3)
)


def day_of(row: Row) -> str:
    return next(day for day in reversed(DAYS) if row.started >= STARTS[day])


def write(folder: Path, rows: list[Row]) -> None:
    by_day = sorted(rows, key=day_of)
    for day, some in groupby(by_day, key=day_of):
        path = folder / f"day={day}"
        path.mkdir(parents=True, exist_ok=True)
        (path / "one.jsonl.gz").write_bytes(write_rows(some))


def trino(sql: str) -> None:
    """Raises ParseError if Trino's grammar does not have it, or if it is more than one statement."""
    (statement,) = sqlglot.parse(sql, read="trino")
    assert isinstance(statement, sqlglot.exp.Select)
    for each in statement.find_all(sqlglot.exp.Func):
        assert not isinstance(each, sqlglot.exp.Anonymous), f"Trino's dialect does not know {each}"


def executed(rows: list[Row], sql: str, folder: Path) -> list[list[str | None]]:
    trino(sql)
    write(folder, rows)
    _, *found = run(sql, folder)
    return found


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    return partial(tmp_path_factory.mktemp, "text")


@settings(max_examples=60, deadline=None)
@given(
    rows=rows_of_files, query=st.sampled_from(QUERIES), days=day_spans, since=st.just(0) | seconds, after=places,
    role=st.none() | st.sampled_from(["user", "agent"]), agents=some_agents,
)  # fmt: skip
def test_a_search_finds_what_the_rows_have(folders, rows, query, days, since, after, role, agents) -> None:
    sql = search_turns(TABLE, needles(query), days, since, after, role=role, agents=agents)

    found = executed(rows, sql, folders())

    def is_found(row: Row) -> bool:
        place = (-row.started, row.conversation_id, row.turn)
        return (
            row.turn >= 0 and days[0] <= day_of(row) <= days[1] and row.started >= since
            and place > (-after.started, after.conversation_id, after.turn)
            and role in (None, row.role) and (agents is None or row.agent_id in agents)
            and all(needle in (row.words or "") for needle in needles(query))
        )  # fmt: skip

    wanted = {(-each.started, each.conversation_id, each.turn, each.version) for each in rows if is_found(each)}
    assert found == [[id, str(turn), str(-minus), version] for minus, id, turn, version in sorted(wanted)]


@settings(max_examples=60, deadline=None)
@given(rows=rows_of_files, days=day_spans, span=st.tuples(seconds, seconds).map(sorted), agents=some_agents)
def test_sums_are_of_each_call_once(folders, rows, days, span, agents) -> None:
    one_row_a_version = list(
        {(each.conversation_id, each.version): each for each in rows if each.turn == CALL}.values()
    )
    sql = sum_calls(TABLE, days, *span, agents)

    found = executed(one_row_a_version or rows, sql, folders())

    newest: dict[str, Row] = {}
    for row in sorted(one_row_a_version, key=attrgetter("version")):
        if days[0] <= day_of(row) <= days[1]:
            newest[row.conversation_id] = row
    sums: dict[tuple[str, str | None], list[Row]] = defaultdict(list)
    for row in newest.values():
        if span[0] <= row.started <= span[1] and (agents is None or row.agent_id in agents):
            sums[day_of(row), row.agent_id].append(row)
    wanted = [
        [day, agent, len(some), total(some, "seconds"), sum(each.seconds is not None for each in some),
         *(sum(each.outcome == name for each in some) for name in ("success", "failure")),
         sum(each.audio != "none" for each in some), total(some, "cost")]
        for (day, agent), some in sums.items()
    ]  # fmt: skip
    assert sorted(found, key=str) == sorted(([None if x is None else str(x) for x in row] for row in wanted), key=str)
    assert [row[0] for row in found] == sorted((row[0] for row in found), key=str, reverse=True)


def total(rows: list[Row], name: str) -> int | None:
    values = [value for each in rows if (value := getattr(each, name)) is not None]
    return sum(values) if values else None


@given(st.text(max_size=60))
@settings(max_examples=300, deadline=None)
def test_no_query_that_anybody_can_write_leaves_its_literal(query: str) -> None:
    try:
        found = needles(query)
    except ValueError:
        return
    sql = search_turns(TABLE, found, ("2026-11-01", "2026-11-02"), 0, Place(1))
    trino(sql)

    literals = [each.this for each in sqlglot.parse_one(sql, read="trino").find_all(sqlglot.exp.Literal)]

    assert set(found) <= set(literals)


@pytest.mark.parametrize(
    "given_",
    [
        {"needles": ["' OR 1=1"]}, {"needles": ['"']}, {"days": ("2026-11-01' OR '", "2026-11-02")},
        {"agents": ["a'b"]}, {"role": "user' --"}, {"table": 'turns" --'}, {"after": Place(1, "a'", 1)},
    ],
    ids=str,
)  # fmt: skip
def test_what_could_be_sql_is_refused(given_: dict[str, Any]) -> None:
    usual = {"table": TABLE, "needles": ["a"], "days": ("2026-11-01", "2026-11-02"), "since": 0, "after": Place(1)}

    with pytest.raises(ValueError, match="not "):
        search_turns(**usual | given_)


def test_a_statistic_has_an_end() -> None:
    assert sum_calls(TABLE, ("2026-11-01", "2026-11-02"), 0, 1).endswith(f"LIMIT {MOST_SUMS + 1}")
