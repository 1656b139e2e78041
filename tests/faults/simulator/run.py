"""`python -m tests.faults.simulator.run`: runs schedules and prints what oracles found, or one schedule's trace."""

import argparse
import json
import os
import sys
import time
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from tests.faults.simulator.faults import MEANINGS
from tests.faults.simulator.oracles import SENTENCES
from tests.faults.simulator.planted import PLANTED
from tests.faults.simulator.schedules import Result, first_failing, run_all, smallest

console = Console(highlight=False)
SHOWN = 20  # violations
PROGRESS = 1000  # schedules


def main() -> int:
    options = read_options()
    if options.seed is not None:
        return show(smallest(options.seed, options.plant), options.plant)
    if options.plants is not None:
        return show_plants(options.plants or list(PLANTED), options.most, options.json)
    return show_all(range(options.first, options.first + options.schedules), options.json)


def read_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, help="print the trace of this schedule, as small as its violation allows")
    parser.add_argument("--plant", default="", choices=["", *PLANTED], help="with this bug planted", metavar="BUG")
    parser.add_argument(
        "--plants", nargs="*", choices=PLANTED, metavar="BUG",
        help="plant these bugs, or all, one at a time, and count the schedules until each is seen",
    )  # fmt: skip
    parser.add_argument("--most", type=int, default=10_000, help="schedules in which a planted bug must be seen")
    parser.add_argument("--schedules", type=int, default=20_000)
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    parser.add_argument("--json", type=Path, help="write the numbers to this file")
    return parser.parse_args()


def show(result: Result, plant: str) -> int:
    """Print a trace, and what is wrong at its end."""
    if plant:
        console.print(f"Planted: {PLANTED[plant].sentence}")
    console.print(f"Seed {result.seed}: {result.story}", soft_wrap=True)
    console.print("\n".join(result.trace), soft_wrap=True, markup=False)
    for kind, meaning in MEANINGS.items():
        if any(line.endswith(f"!! {kind}") for line in result.trace):
            console.print(f"!! {kind}: {meaning}", soft_wrap=True)
    for oracle, found in result.violations.items():
        console.print(f"{oracle}: {found}\n  violates: {sentence(oracle)}", soft_wrap=True)
    if not result.violations:
        console.print(f"Seed {result.seed}: no violation in {result.calls} outward calls.")
    return 1 if result.violations else 0


def sentence(oracle: str) -> str:
    return SENTENCES.get(oracle, "The simulator works.")


def show_all(seeds: range, file: Path | None) -> int:
    started, calls, failed = time.monotonic(), 0, dict[int, dict[str, str]]()
    for number, result in enumerate(run_all(seeds, os.cpu_count() or 1), start=1):
        calls += result.calls
        if result.violations:
            failed[result.seed] = result.violations
            if len(failed) <= SHOWN:
                console.print(f"seed {result.seed}: {result.violations}", soft_wrap=True)
        if number % PROGRESS == 0:
            console.print(f"{number:,} of {len(seeds):,} schedules, {calls:,} outward calls, {len(failed)} violations")
    seconds = time.monotonic() - started
    table = Table("schedules", "seeds", "outward calls", "calls a minute", "violations")
    seeds_text, per_minute = f"{seeds.start:,} to {seeds.stop - 1:,}", f"{calls / seconds * 60:,.0f}"
    table.add_row(f"{len(seeds):,}", seeds_text, f"{calls:,}", per_minute, str(len(failed)))
    console.print(table)
    write(file, {
        "first_seed": seeds.start, "schedules": len(seeds), "outward_calls": calls, "seconds": round(seconds),
        "violations": len(failed), "failed": failed,
    })  # fmt: skip
    return 1 if failed else 0


def show_plants(names: list[str], most: int, file: Path | None) -> int:
    """Plant each bug, and print how many schedules it took until an oracle saw it."""
    table, found = Table("bug", "schedules", "seen by"), dict[str, Any]()
    with get_context("spawn").Pool() as pool:
        for name, first in pool.imap(partial(first_seen, most=most), names):
            seen = sorted(first.violations) if first else []
            found[name] = {
                "bug": PLANTED[name].sentence, "schedules": first.seed + 1 if first else None, "seen_by": seen,
                "is_seen": bool(PLANTED[name].seen_by & set(seen)),
            }  # fmt: skip
            table.add_row(PLANTED[name].sentence, str(found[name]["schedules"]), ", ".join(seen) or "nothing")
            console.print(f"{name}: {found[name]['schedules']} schedules, seen by {', '.join(seen) or 'nothing'}")
    console.print(table)
    write(file, found)
    return 0 if all(each["is_seen"] for each in found.values()) else 1


def first_seen(name: str, most: int) -> tuple[str, Result | None]:
    return name, first_failing(name, most)


def write(file: Path | None, numbers: dict[str, Any]) -> None:
    if file:
        file.write_text(json.dumps(numbers, indent=2))


def with_fixed_hashes() -> None:
    """Start again with PYTHONHASHSEED=0: the order of sets differs otherwise, and a seed would give other schedules."""
    if os.environ.get("PYTHONHASHSEED") != "0":
        again = [sys.executable, "-m", "tests.faults.simulator.run", *sys.argv[1:]]
        os.execve(sys.executable, again, os.environ | {"PYTHONHASHSEED": "0"})


if __name__ == "__main__":
    with_fixed_hashes()
    raise SystemExit(main())
