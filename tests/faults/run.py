"""`python -m tests.faults.run`: runs schedules and prints what the oracles found; or the trace of one schedule."""

import argparse
import json
import os
import time
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from tests.faults.oracles import ORACLES
from tests.faults.planted import PLANTED
from tests.faults.schedules import Result, first_failing, run_all, smallest

console = Console(highlight=False)
PLANT_MOST = 3000  # schedules in which a planted bug must be found


def main() -> int:
    options = read_options()
    if options.seed is not None:
        return show(smallest(options.seed, options.plant), options.plant)
    if options.plants:
        return show_plants()
    return show_all(range(options.first, options.first + options.schedules), options.json)


def read_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, help="print the smallest trace of this schedule")
    parser.add_argument("--plant", default="", choices=["", *PLANTED], help="with this bug planted", metavar="BUG")
    parser.add_argument(
        "--plants", action="store_true", help="plant each bug, and count the schedules until it is seen"
    )
    parser.add_argument("--schedules", type=int, default=20_000)
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    parser.add_argument("--json", type=Path, help="write the numbers to this file")
    return parser.parse_args()


def show(result: Result, plant: str) -> int:
    """Print a trace, and what is wrong at its end."""
    if plant:
        console.print(f"Planted: {PLANTED[plant].sentence}")
    console.print("\n".join(result.trace), soft_wrap=True, markup=False)
    for oracle, found in result.violations.items():
        console.print(f"{oracle}: {found}\n  violates: {sentence(oracle)}", soft_wrap=True)
    if not result.violations:
        console.print(f"Seed {result.seed}: no violation in {result.calls} outward calls.")
    return 1 if result.violations else 0


def sentence(oracle: str) -> str:
    documented = ORACLES.get(oracle)
    return str(documented.__doc__) if documented else "No webhook is answered with 200 before it is stored and queued."


def show_all(seeds: range, file: Path | None) -> int:
    started, calls, failed = time.monotonic(), 0, []
    for number, result in enumerate(run_all(seeds, os.cpu_count() or 1), start=1):
        calls += result.calls
        if result.violations:
            failed.append(result)
            console.print(f"seed {result.seed}: {result.violations}", soft_wrap=True)
        if number % 1000 == 0:
            console.print(f"{number:,} of {len(seeds):,} schedules, {calls:,} outward calls, {len(failed)} violations")
    seconds = time.monotonic() - started
    numbers: dict[str, Any] = {
        "first_seed": seeds.start, "schedules": len(seeds), "outward_calls": calls, "violations": len(failed),
        "seconds": round(seconds),
    }  # fmt: skip
    table = Table("schedules", "seeds", "outward calls", "calls per second", "violations")
    table.add_row(
        f"{len(seeds):,}", f"{seeds.start}–{seeds.stop - 1}", f"{calls:,}", f"{calls / seconds:,.0f}", str(len(failed))
    )
    console.print(table)
    if file:
        file.write_text(json.dumps(numbers | {"failed": [each.seed for each in failed]}, indent=2))
    return 1 if failed else 0


def show_plants() -> int:
    """Plant each bug, and print how many schedules it took until an oracle saw it."""
    table = Table("bug", "schedules", "seen by", "seed")
    missed = 0
    for name, planted in PLANTED.items():
        found = first_failing(name, PLANT_MOST)
        missed += found is None
        seen = ", ".join(found[1].violations) if found else "nothing"
        table.add_row(
            planted.sentence, str(found[0] if found else PLANT_MOST), seen, str(found[1].seed if found else "-")
        )
    console.print(table)
    return 1 if missed else 0


if __name__ == "__main__":
    raise SystemExit(main())
