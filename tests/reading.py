"""What it costs to find calls among 10,000 and among 100,000. Run as a program it prints that.

The API's function runs in this process, on the table of the embedded AWS. Read units are computed from the answers of
the table, as AWS does: half a unit for 4 KB of an index, a unit for 4 KB of a record.
"""

import json
import math
import os
import random
import statistics
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta, timezone
from types import SimpleNamespace
from typing import Any

import boto3
from boto3.dynamodb.types import TypeSerializer

from scripts.embedded.aws import REGION, ROOT_KEY, EmbeddedAws
from scripts.embedded.deployment import deploy
from shared.indexes import DAYS, listing
from shared.times import utc

COUNTS = (10_000, 100_000)
DAYS_BACK, AGENTS, CALLERS = 365, 20, 20_000
NOW = datetime(2026, 11, 25, 12, tzinfo=timezone.utc)
TIMES = 5
CONTEXT = SimpleNamespace(
    function_name="bench", memory_limit_in_mb=512, aws_request_id="request-1",
    get_remaining_time_in_millis=lambda: 9999,
    invoked_function_arn="arn:aws:lambda:us-east-1:000000000000:function:bench",
)  # fmt: skip
WORDS = ("the", "boat", "berth", "mooring", "winter", "sail", "rope", "harbour", "crane", "oil", "engine", "Thursday")
QUERIES = {
    "newest calls": "/calls",
    "second page": "/calls",
    "one caller": "/calls?caller=%2B12025550123",
    "one agent": "/calls?agent=agent_7",
    "one agent, failures": "/calls?agent=agent_7&outcome=failure",
    "a day last spring": "/calls?from=2026-04-01&to=2026-04-01",
    "longer than 50 minutes": "/calls?min_seconds=3000",
    "a word of the summaries": "/calls?text=lighthouse",
    "one call": "/calls/conv_7",
}


def records(count: int) -> Iterator[dict[str, Any]]:
    """Calls of a year, as the archiver writes their records. A rare one is about a lighthouse."""
    chance = random.Random(1)
    for number in range(count):
        started = NOW - timedelta(seconds=chance.randrange(DAYS_BACK * 86400))
        agent, digits = f"agent_{number % AGENTS}", f"1202555{chance.randrange(CALLERS):04}"
        call, words = f"conv_{number}", [*chance.choices(WORDS, k=50), *(["lighthouse"] if number % 5000 == 0 else [])]
        yield {
            "conversation_id": call, "item": "call", "folder": digits, "external_number": f"+{digits}",
            "caller": digits, "agent_id": agent, "started_at": utc(started), "archived_at": utc(started),
            "duration_secs": int(chance.expovariate(1 / 300)), "status": "done", "cost": chance.randrange(500),
            "call_successful": chance.choices(("success", "failure"), (9, 1))[0], "audio": "archived",
            "t_order": "1-0-0",
            "title": "A call", "summary": " ".join(words), "json_key": f"{digits}/{call}.json",
            "staged_keys": {f"staging/2026/11/22/10/{number:064}.json"}, "numbers": {digits},
        } | listing(call, agent, utc(started))  # fmt: skip


def fill(client: Any, table: str, items: list[dict[str, Any]]) -> None:
    write = TypeSerializer().serialize

    def put(batch: list[dict[str, Any]]) -> None:
        puts = [{"PutRequest": {"Item": {name: write(value) for name, value in item.items()}}} for item in batch]
        client.batch_write_item(RequestItems={table: puts})

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(put, [items[start : start + 25] for start in range(0, len(items), 25)]))


class Meter:
    """Counts the requests to the table, and computes their read units."""

    def __init__(self) -> None:
        self.requests, self.units = 0, 0.0

    def read(self, http_response: Any, parsed: dict[str, Any], model: Any, **_: Any) -> None:
        self.requests += 1
        if model.name == "Query":
            self.units += max(0.5, math.ceil(size(parsed["Items"]) / 4096) / 2)
        elif model.name == "GetItem":
            self.units += max(1, math.ceil(size([parsed.get("Item", {})]) / 4096))
        elif model.name == "BatchGetItem":
            found = [item for items in parsed["Responses"].values() for item in items]
            self.units += sum(math.ceil(size([item]) / 4096) for item in found)


def size(items: list[dict[str, Any]]) -> int:
    """About the size that DynamoDB counts: names and values."""
    return sum(len(name) + len(str(next(iter(value.values())))) for item in items for name, value in item.items())


def ask(handler: Any, address: str) -> dict[str, Any]:
    path, _, query = address.partition("?")
    event = {
        "version": "2.0", "routeKey": f"GET {path.replace('conv_7', '{id}')}", "rawPath": path,
        "rawQueryString": query, "headers": {},
        "requestContext": {"http": {"method": "GET", "path": path}, "stage": "$default",
                           "authorizer": {"iam": {"userArn": "arn:aws:iam::000000000000:user/bench"}}},
    }  # fmt: skip
    answer = handler(event, CONTEXT)
    assert answer["statusCode"] == 200 or path.startswith("/calls/"), answer["body"]
    return dict(json.loads(answer["body"]))


def measure(handler: Any, meter: Meter, name: str, address: str) -> dict[str, float]:
    if name == "second page":
        address += f"?cursor={ask(handler, address)['next']}"
    times = []
    for _ in range(TIMES):
        meter.requests, meter.units, begun = 0, 0.0, time.perf_counter()
        answer = ask(handler, address)
        times.append(time.perf_counter() - begun)
    return {"units": meter.units, "requests": meter.requests, "ms": statistics.median(times) * 1000,
            "rows": len(answer.get("calls", [1]))}  # fmt: skip


def run() -> dict[int, dict[str, dict[str, float]]]:
    with EmbeddedAws() as aws:
        outputs = deploy(aws, "reading", {})
        os.environ |= {
            "AWS_ENDPOINT_URL": aws.endpoint_url, "AWS_DEFAULT_REGION": REGION, "AWS_ACCESS_KEY_ID": ROOT_KEY,
            "AWS_SECRET_ACCESS_KEY": ROOT_KEY, "BUCKET_NAME": outputs["BucketName"], "MEM0_HOST": "",
            "CONVERSATION_TABLE_NAME": outputs["ConversationTableName"], "MEMORY_BACKEND": "oss",
            "MEMORY_SECRET_ARN": "", "TEXT_DATABASE": "", "TEXT_TABLE": "", "ATHENA_WORKGROUP": "",
            "POWERTOOLS_METRICS_DISABLED": "true", "LOG_LEVEL": "ERROR",
            "POWERTOOLS_SERVICE_NAME": "bench", "POWERTOOLS_METRICS_NAMESPACE": "bench",
        }  # fmt: skip
        client, table = boto3.client("dynamodb"), outputs["ConversationTableName"]
        from api.handler import aws as clients
        from api.handler import lambda_handler

        meter = Meter()
        clients().table.meta.client.meta.events.register_first("after-call.dynamodb", meter.read)
        found, items = {}, list(records(COUNTS[-1]))
        days = sorted({item["listed_at"][:10] for item in items})
        fill(client, table, [{"conversation_id": DAYS, "item": day} for day in days])
        done = 0
        for count in COUNTS:
            print(f"Writing {count - done:,} records ...", file=sys.stderr, flush=True)
            fill(client, table, items[done:count])
            done = count
            found[count] = {name: measure(lambda_handler, meter, name, address) for name, address in QUERIES.items()}
        return found


def main() -> int:
    found = run()
    few, many = COUNTS
    print(f"{'':<26}{few:>10,} calls{many:>22,} calls")
    for name in QUERIES:
        cells = [f"{each['units']:>8.1f} units {each['ms']:>6.0f} ms" for each in (found[few][name], found[many][name])]
        print(f"{name:<26}{'   '.join(cells)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
