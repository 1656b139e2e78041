"""Fuzzes the two edges: requests to ingest, and bodies and messages to the archiver and the memory writer.

    python -m tests.faults.fuzzing.run --seed 1 --inputs 20000

The same seed gives the same inputs. A violation is printed with its seed and the smallest input that was found for it.
"""

import argparse
import json
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from random import Random
from typing import Any

import tests.conftest  # noqa: F401 (first: it names the metrics)
from tests.faults.fuzzing.aws import FuzzAws, Input, fuzz_aws
from tests.faults.fuzzing.inputs import Delivery, Message, Request, delivery, message, request
from tests.faults.fuzzing.rules import RULES, Rule, costs_what_it_weighs

KINDS = ("requests", "deliveries", "messages")
MOST_RUNS = 200  # to make one input smaller
SHOWN = 3  # violations of one rule that are made smaller and printed


@dataclass
class Result:
    kind: str
    inputs: int = 0
    seconds: float = 0
    violations: Counter[str] = field(default_factory=Counter)


def make_input(aws: FuzzAws, kind: str, seed: int) -> Callable[[int], Input]:
    """The inputs of a kind and a seed, by number."""
    sample = aws.sample()
    make: dict[str, Callable[[Random], Input]] = {
        "requests": request, "deliveries": delivery, "messages": lambda random: message(random, *sample)
    }  # fmt: skip
    return lambda number: make[kind](Random(f"{kind} {seed} {number}"))


def broken_rules(aws: FuzzAws, given: Input) -> Iterator[tuple[Rule, str]]:
    """The rules that this input breaks, and how."""
    seen = aws.run(given)
    for rule in RULES[type(given)]:
        if wrong := rule(given, seen):
            # A garbage collection is no violation: what costs too much does so again.
            if rule is costs_what_it_weighs and not all(rule(given, aws.run(given)) for _ in range(3)):
                continue
            yield rule, wrong


def minimise(aws: FuzzAws, given: Input, rule: Rule) -> Input:
    """The smallest input found in MOST_RUNS that still breaks the rule."""
    runs, is_smaller = 0, True
    while is_smaller:
        is_smaller = False
        for each in _smaller(given):
            runs += 1
            if runs > MOST_RUNS:
                return given
            if rule(each, aws.run(each)):
                given, is_smaller = each, True
                break
    return given


def _smaller(given: Input) -> Iterator[Input]:
    if isinstance(given, Message):
        yield from (replace(given, text=each) for each in _cuts(given.text))
    elif isinstance(given, Request):
        plain = Request(given.body)
        yield from (
            replace(given, **{name: value}) for name, value in vars(plain).items() if getattr(given, name) != value
        )
        yield from (replace(given, body=each) for each in _cuts(given.body))
    else:
        bodies = given.bodies
        for place, body in enumerate(bodies):
            if len(bodies) > 1:
                yield Delivery(bodies[:place] + bodies[place + 1 :])
            yield from (Delivery((*bodies[:place], each, *bodies[place + 1 :])) for each in _cuts(body))


def _cuts(text: Any) -> Iterator[Any]:
    """The text without a half, a quarter, and so on."""
    size = len(text) // 2
    while size:
        yield from (text[:start] + text[start + size :] for start in range(0, len(text), size))
        size //= 2


def fuzz(aws: FuzzAws, kind: str, seed: int, numbers: range, show: Callable[[str], None]) -> Result:
    make, result, begun = make_input(aws, kind, seed), Result(kind), time.monotonic()
    for number in numbers:
        given = make(number)
        for rule, wrong in broken_rules(aws, given):
            result.violations[rule.__name__] += 1
            if result.violations[rule.__name__] <= SHOWN:
                small = minimise(aws, given, rule)
                show(f"{kind}, seed {seed}, input {number}: {rule.__name__}: {wrong}\n  {shorten(small)}")
        result.inputs += 1
    result.seconds = time.monotonic() - begun
    return result


def shorten(given: Input, most: int = 600) -> str:
    text = repr(given)
    return text if len(text) <= most else f"{text[: most // 2]} … {text[-most // 2 :]} ({len(text)} characters)"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--inputs", type=int, default=1000, help="of each kind")
    parser.add_argument("--first", type=int, default=0, help="number of the first input, to see one again")
    parser.add_argument("--kind", choices=KINDS, action="append", help="all if not given")
    parser.add_argument("--json", type=Path, help="write the table to this file too")
    options = parser.parse_args()
    numbers = range(options.first, options.first + options.inputs)
    with fuzz_aws() as aws:
        results = [
            fuzz(aws, kind, options.seed, numbers, lambda line: print(line, flush=True))
            for kind in options.kind or KINDS
        ]
    print(f"{'':12}{'inputs':>9}{'seconds':>9}{'violations':>12}")
    for each in results:
        broken = f"{each.violations.total():12}  {dict(each.violations) or ''}"
        print(f"{each.kind:12}{each.inputs:9,}{each.seconds:9.0f}{broken}")
    if options.json:
        options.json.write_text(
            json.dumps({"seed": options.seed, "results": [asdict(each) for each in results]}, indent=2)
        )
    return 1 if any(each.violations for each in results) else 0


if __name__ == "__main__":
    sys.exit(main())
