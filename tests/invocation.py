"""One invocation of a handler in this process, as `python -m tests.invocation archiver.handler < event.json`.

Prints the answer, the seconds of CPU that it took, and the most memory that the process ever had, in MB.
"""

import importlib
import json
import re
import sys
import time
from pathlib import Path
from types import SimpleNamespace


def peak_mb() -> int:
    """As Linux counts it from the start of a program. getrusage's ru_maxrss counts what started the program, too."""
    (found,) = re.findall(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    return int(found) // 1000


def main() -> None:
    name, event = sys.argv[1], json.load(sys.stdin)
    handler = importlib.import_module(name).lambda_handler
    context = SimpleNamespace(
        function_name=name, memory_limit_in_mb=512, aws_request_id="request-1",
        invoked_function_arn="arn:aws:lambda:us-east-1:000000000000:function:test",
        get_remaining_time_in_millis=lambda: 120_000,
    )  # fmt: skip
    start = time.process_time()
    answer = handler(event, context)
    print(json.dumps({"answer": answer, "seconds": time.process_time() - start, "peak_mb": peak_mb()}))


if __name__ == "__main__":
    main()
