"""What it takes to search what was said in 1,000, 10,000 and 20,000 calls, and that nothing is missed. Run as a program
it prints that.

The API's function runs in this process; table, bucket and Athena are the embedded AWS, whose Athena is DuckDB and reads
all files in each query. So its times are no promise for AWS. Its figure for the bytes is not real either: the bytes are
those of the files in the days that were searched, which is what Athena bills, 10 MB at least.
"""

import json
import os
import random
import re
import statistics
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from typing import Any
from urllib.parse import quote

from scripts.embedded.aws import REGION, ROOT_KEY, EmbeddedAws
from scripts.embedded.deployment import deploy
from shared.conversation import read_conversation
from shared.indexes import listing
from shared.observability import logger
from shared.texts import Row, day_of, file_key, rows_of, write_rows
from shared.times import utc
from tests.reading import CONTEXT, fill

COUNTS = (1_000, 10_000, 20_000)
DAYS = range(0, 400, 5)  # ago, on which there are calls
AGENTS = 5
NOW = datetime.now(timezone.utc).replace(microsecond=0)
WORDS = [
    "the", "boat", "is", "at", "its", "berth", "in", "harbour", "and", "crane", "lifts", "it", "on", "Thursday",
    "before", "winter", "storage", "when", "oil", "engine", "rope", "sail", "mooring", "are", "checked", "please",
    "thank", "you", "of", "course", "one", "moment", "what", "name", "shall", "I", "write", "down",
]  # fmt: skip
PLANTED = ("lighthouse keeper", "Blender REFUND", "straße nach Köln", "退款申请", "quasar zeppelin")
QUERIES = {  # what is searched for each planted phrase
    "lighthouse keeper": "keeper lighthouse", "Blender REFUND": '"blender refund"', "straße nach Köln": "strasse koln",
    "退款申请": "退款", "quasar zeppelin": "quas zepp",
}  # fmt: skip
OLD, NEW = "1-1772550278000-0", "1-1772550279000-0"
Hit = tuple[int, str, int]


@dataclass
class Corpus:
    """Generated calls: their records, JSON and rows, and where each planted phrase is, erased calls left out."""

    records: list[dict[str, Any]] = field(default_factory=list)
    bodies: dict[str, bytes] = field(default_factory=dict)
    rows: dict[str, list[Row]] = field(default_factory=lambda: defaultdict(list))
    expected: dict[str, list[Hit]] = field(default_factory=lambda: defaultdict(list))
    erased: set[str] = field(default_factory=set)
    counts: Counter[str] = field(default_factory=Counter)


def corpus(first: int, count: int, days: Sequence[int] = DAYS) -> Corpus:
    """Calls number `first` to `count`. One in 40 has a planted phrase, and one in 8 of these is erased.

    Of one in 20 an older version is indexed too, with the phrase in another turn; one in 25 is indexed twice. The rows
    of erased calls are still there, as they are until the erasure has rewritten the files.
    """
    made = Corpus()
    for number in range(first, count):
        chance = random.Random(number)
        id, started = f"conv_{number:06}", NOW - timedelta(chance.choice(days), chance.randrange(86400))
        at, agent = int(started.timestamp()), f"agent_{number % AGENTS}"
        said = [" ".join(chance.choices(WORDS, k=chance.randrange(3, 30))) for _ in range(chance.randrange(4, 24))]
        is_erased = number % 320 == 0
        if number % 40 == 0:
            phrase, turn = PLANTED[number // 40 % len(PLANTED)], chance.randrange(len(said))
            said[turn] = f"Yes: {phrase}, that is it."
            if not is_erased:
                made.expected[phrase].append((-at, id, turn))
        body = json_of(said, agent, at)
        listed, day = utc(started), utc(started)[:10]
        digits = f"1202555{number % 10000:04}"
        record = {
            "conversation_id": id, "item": "call", "folder": digits, "external_number": f"+{digits}", "caller": digits,
            "agent_id": agent, "started_at": listed, "archived_at": listed, "json_key": f"{digits}/{id}.json",
            "t_order": NEW, "text_order": NEW, "audio": "archived", "title": "A call",
        } | listing(id, agent, listed)  # fmt: skip
        made.records.append(record | ({"erased_at": listed} if is_erased else {}))
        made.erased |= {id} if is_erased else set()
        made.counts[day] += 1
        if number % 40 == 0:  # only these are read again
            made.bodies[record["json_key"]] = body
        for copy in range(2 if number % 25 == 0 else 1):
            made.rows[f"{day} {copy}"] += rows_of(read_conversation(body), id, f"+{digits}", at, NEW, "archived")
        if number % 20 == 0:
            older = json_of(["Hello.", *said], agent, at)
            made.rows[f"{day} old"] += rows_of(read_conversation(older), id, f"+{digits}", at, OLD, "pending")
    return made


def json_of(said: list[str], agent: str, at: int) -> bytes:
    turns = [
        {"role": ("agent", "user")[index % 2], "message": each, "time_in_call_secs": index * 6}
        for index, each in enumerate(said)
    ]
    metadata = {"start_time_unix_secs": at, "call_duration_secs": len(said) * 6, "cost": 100}
    return json.dumps(
        {"agent_id": agent, "transcript": turns, "metadata": metadata, "analysis": {"call_successful": "success"}}
    ).encode()


class Searched:
    """The API over a stack on the embedded AWS, into which calls are put."""

    def __init__(self, aws: EmbeddedAws) -> None:
        self.outputs = deploy(aws, "searching", {"BucketName": "agentic-memory-searching"})
        self.s3, self.client = aws.client("s3"), aws.client("dynamodb")
        functions = aws.client("lambda").list_functions()["Functions"]
        variables = next(
            each["Environment"]["Variables"]
            for each in functions
            if each["Handler"] == "api.handler.lambda_handler" and each["FunctionName"].startswith("searching")
        )
        os.environ |= variables | {
            "AWS_ENDPOINT_URL": aws.endpoint_url, "AWS_DEFAULT_REGION": REGION, "AWS_ACCESS_KEY_ID": ROOT_KEY,
            "AWS_SECRET_ACCESS_KEY": ROOT_KEY, "POWERTOOLS_METRICS_DISABLED": "true", "LOG_LEVEL": "ERROR",
            "POWERTOOLS_METRICS_NAMESPACE": "bench",
        }  # fmt: skip
        from api.handler import athena, lambda_handler

        self._handler, self._days, self._queries = lambda_handler, list[str](), 0
        athena().client.meta.events.register("before-parameter-build.athena.StartQueryExecution", self._note)
        self.sizes: Counter[str] = Counter()

    def _note(self, params: dict[str, Any], **_: Any) -> None:
        first, last = re.findall(r"day BETWEEN '(.{10})' AND '(.{10})'", params["QueryString"])[0]
        self._queries += 1
        self._days += [day for day in self.sizes if first <= day <= last]

    def put(self, made: Corpus) -> None:
        bucket = self.outputs["BucketName"]
        for key, body in made.bodies.items():
            self.s3.put_object(Bucket=bucket, Key=key, Body=body, Metadata={"order": NEW})
        for named, rows in made.rows.items():
            body = write_rows(rows)
            key = file_key(named[:10], {(named, rows[0].conversation_id)})
            self.s3.put_object(Bucket=bucket, Key=key, Body=body)
            self.sizes[day_of(key) or ""] += len(body)
        fill(self.client, self.outputs["ConversationTableName"], made.records)

    def ask(self, path: str, query: str) -> dict[str, Any]:
        identity = {"iam": {"userArn": "arn:aws:iam::000000000000:user/bench"}}
        event = {
            "version": "2.0", "routeKey": f"GET {path}", "rawPath": path, "rawQueryString": query, "headers": {},
            "requestContext": {"http": {"method": "GET", "path": path}, "stage": "$default", "authorizer": identity},
        }  # fmt: skip
        answer = self._handler(event, CONTEXT)
        assert answer["statusCode"] in (200, 202), answer["body"]
        return dict(json.loads(answer["body"]))

    def pages(self, query: str) -> Iterator[dict[str, Any]]:
        cursor = ""
        while cursor is not None:
            page = self.ask("/search", f"{query}&limit=50" + (f"&cursor={cursor}" if cursor else ""))
            cursor = page["next"]
            yield page

    def measure(self, path: str, query: str) -> tuple[float, int, int]:
        """Seconds, bytes of the files that were searched, and queries, for one answer."""
        self._days.clear()
        self._queries = 0
        begun = time.perf_counter()
        self.ask(path, query)
        return time.perf_counter() - begun, sum(self.sizes[day] for day in self._days), self._queries


def check(searched: Searched, known: list[Corpus]) -> int:
    """Compare all that is found with what was planted; returns the number of turns. Raises AssertionError."""
    found = 0
    for phrase, query in QUERIES.items():
        hits = [
            (-int(datetime.fromisoformat(hit["started_at"]).timestamp()), hit["conversation_id"], hit["index"])
            for page in searched.pages(f"q={quote(query)}")
            for hit in page["hits"]
        ]
        expected = sorted(hit for each in known for hit in each.expected[phrase])
        assert hits == expected, f"{query}: {set(hits) ^ set(expected)}"
        found += len(hits)
    rows = searched.ask("/stats", "")["rows"]
    counted: Counter[str] = Counter()
    for row in rows:
        counted[row["day"]] += row["calls"]
        assert row["with_audio"] == row["success"] == row["calls"]
    assert counted == sum((each.counts for each in known), Counter())
    return found


MEASURED = {
    "a frequent word": ("/search", "q=harbour"),
    "a word of one call in 200": ("/search", "q=lighthouse"),
    "a word that nobody said": ("/search", "q=xylophone"),
    "a phrase, said by one side": ("/search", "q=%22blender+refund%22&role=user"),
    "statistics of 30 days": ("/stats", f"from={utc(NOW - timedelta(30))[:10]}"),
    "statistics of all days": ("/stats", ""),
}


def run(
    counts: Sequence[int] = COUNTS, days: Sequence[int] = DAYS, times: int = 3
) -> Iterator[tuple[int, int, int, dict[str, Any]]]:
    """For each number of calls: the turns found, the bytes of all files, and what each query took."""
    with EmbeddedAws() as aws:
        searched, known = Searched(aws), list[Corpus]()
        for first, count in zip((0, *counts), counts, strict=False):
            print(f"Writing {count - first:,} calls ...", file=sys.stderr, flush=True)
            known.append(corpus(first, count, days))
            searched.put(known[-1])
            found = check(searched, known)
            taken = {name: [searched.measure(*asked) for _ in range(times)] for name, asked in MEASURED.items()}
            yield count, found, sum(searched.sizes.values()), taken


def main() -> int:
    logger.setLevel("ERROR")
    for count, found, size, taken in run():
        print(f"\n{count:,} calls in {size / 1e6:.2f} MB: all {found} planted turns were found, newest first")
        for name, measured in taken.items():
            seconds, read, queries = (statistics.median(column) for column in zip(*measured, strict=True))
            print(f"  {name:<28}{seconds:>7.2f} s{read / 1e6:>8.2f} MB{queries:>4.0f} queries")
    return 0


if __name__ == "__main__":
    sys.exit(main())
