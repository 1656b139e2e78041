"""`make faults`: all proofs under faults, one after another, and one report.

    python -m tests.faults.report --json report.json

Exit code 1 if a promise was broken, or a planted bug was not seen.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections import Counter
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from tests.faults.simulator.oracles import SENTENCES

console = Console(highlight=False)
SIMULATOR = "tests.faults.simulator.run"
Numbers = dict[str, Any]
LONGEST = 6 * 3600  # seconds of one part


def parts(options: argparse.Namespace) -> dict[str, list[str]]:
    """The modules that are run, and with which options."""
    return {
        "schedules": [SIMULATOR, "--schedules", str(options.schedules), "--first", str(options.first)],
        "plants": [SIMULATOR, "--plants"],
        "fuzz": ["tests.faults.fuzzing.run", "--inputs", str(options.inputs)],
        "kills": ["tests.faults.processes.kills", "--calls", str(options.kill_calls)],
        "load": ["tests.faults.processes.load", "--calls", str(options.load_calls)],
    }


def main() -> int:
    options, found, broken = read_options(), dict[str, Numbers](), []
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        for name, command in parts(options).items():
            console.rule(f"{name}: python -m {' '.join(command)}")
            file = Path(folder) / f"{name}.json"
            whole = [sys.executable, "-m", *command, "--json", str(file)]
            if subprocess.run(whole, check=False, timeout=LONGEST).returncode:
                broken.append(name)
            found[name] = json.loads(file.read_text()) if file.exists() else {}
    console.rule(f"Proof under faults, {commit()}, {datetime.now(timezone.utc):%Y-%m-%d}")
    if all(found.values()):
        console.print(promises(found))
        console.print(others(found))
    verdict = f"Not held: {', '.join(broken)}." if broken else "Everything held."
    console.print(f"{verdict} {time.monotonic() - began:.0f} s")
    if options.json:
        options.json.write_text(json.dumps({"commit": commit(), "not_held": broken} | found, indent=2))
    return 1 if broken else 0


def read_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--schedules", type=int, default=20_000)
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    parser.add_argument("--inputs", type=int, default=500, help="of each kind of fuzzing")
    parser.add_argument("--kill-calls", type=int, default=300, help="calls while processes are killed")
    parser.add_argument("--load-calls", type=int, default=500, help="calls of the load")
    parser.add_argument("--json", type=Path, help="write the numbers to this file")
    return parser.parse_args()


def promises(found: dict[str, Numbers]) -> Table:
    """Each promise, how many schedules broke it, and the planted bug that breaks it most easily."""
    schedules = found["schedules"]
    seeds = f"seeds {schedules['first_seed']:,} to {schedules['first_seed'] + schedules['schedules'] - 1:,}"
    amount = f"{schedules['schedules']:,} schedules, {seeds}, {schedules['outward_calls']:,} outward calls"
    table = Table("promise", "violations", "schedules until a planted bug broke it", title=amount)
    violations = Counter(name for each in schedules["failed"].values() for name in each)
    for name, sentence in SENTENCES.items():
        seen = [each["schedules"] for each in found["plants"].values() if name in each["seen_by"]]
        table.add_row(sentence, str(violations[name]), f"{min(seen):,}" if seen else "never")
    return table


def others(found: dict[str, Numbers]) -> Table:
    """What was checked outside of the simulator."""
    table = Table("checked", "amount", "result")
    for each in found["fuzz"]["results"]:
        broken = sum(each["violations"].values())
        table.add_row(f"fuzzing: {each['kind']}", f"{each['inputs']:,} inputs", f"{broken} violations")
    kills = found["kills"]
    amount = (
        f"{kills['plan']['calls']:,} calls, {kills['acknowledged']:,} bodies acknowledged; "
        f"{sum(kills['worker_kills'].values())} kills of functions, {kills['emulator_kills']} of the emulator"
    )
    result = ", ".join(f"{len(each)} {name}" for name, each in kills["findings"].items())
    table.add_row("real processes that are killed", amount, result)
    load = found["load"]
    waiting = max(each["archive"] for each in load["samples"])
    result = f"{load['remembered']:,} remembered, {load['left']} messages left, {waiting:,} waited at most"
    table.add_row("load", f"{load['asked']:,} calls, {load['acknowledged']:,} bodies acknowledged", result)
    return table


def commit() -> str:
    command = ["git", "rev-parse", "--short", "HEAD"]
    asked = subprocess.run(command, capture_output=True, text=True, check=False, timeout=10)
    return f"commit {asked.stdout.strip()}" if asked.returncode == 0 else "no commit"


if __name__ == "__main__":
    sys.exit(main())
