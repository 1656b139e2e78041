"""The embedded AWS whose processes can be killed: its functions' workers, and itself with its state kept.

AWS does not forget what it accepted, but the emulator has its state in memory. So on SIGUSR1 it writes its state to its
folder, between two requests, and kills itself and all workers with SIGKILL at once. Every connection breaks without an
answer and every invocation ends where it is. What was answered before is kept; of what was not answered, some is done.
"""

import asyncio
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from random import Random
from typing import Any

from scripts.embedded.aws import ROOT, EmbeddedAws, server_environment
from scripts.embedded.server import end_group, end_with_parent, serve

PERSISTENT = {"PERSIST_STATE": "1", "S3_PERSIST": "1"}
DEATH_SECONDS = 30.0


def short_timeouts(mem0_host: str, mem0_key: str) -> dict[str, str]:
    """Parameters of a stack whose messages come back within seconds; the rules between the numbers are kept."""
    return {
        "Mem0Host": mem0_host, "Mem0ApiKey": mem0_key, "MemoryConcurrency": "6",
        "ArchiveTimeoutSeconds": "5", "ArchiveVisibilitySeconds": "6",
        "MemoryTimeoutSeconds": "8", "MemoryLeaseSeconds": "9", "MemoryVisibilitySeconds": "10",
        "MemoryUnknownSeconds": "10",
    }  # fmt: skip


class MortalAws(EmbeddedAws):
    """Linux only: it finds the workers in /proc."""

    def crash(self) -> None:
        """Kill the emulator with its workers, and start it again on the same port with the state that it had.

        Raises subprocess.TimeoutExpired if it does not die, and EmulatorDiedError if it does not start again.
        """
        process = self._running()
        process.send_signal(signal.SIGUSR1)
        process.wait(DEATH_SECONDS)
        self._process = self._spawn()
        if process.stdin:
            process.stdin.close()
        self._wait_until_ready()

    def kill_worker(self, random: Random) -> str | None:
        """Kill a worker of any function with SIGKILL; returns the function's name, or None if no worker runs."""
        workers = self.workers()
        if not workers:
            return None
        function = random.choice(sorted(set(workers.values())))
        pid = random.choice(sorted(pid for pid, name in workers.items() if name == function))
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            return None
        return function

    def workers(self) -> dict[int, str]:
        """The name of the function, by process id."""
        group = self._running().pid
        found = {pid: function_name(pid) for pid in process_ids() if pid != group and group_of(pid) == group}
        return {pid: name for pid, name in found.items() if name}

    def memory_bytes(self) -> int:
        """What all workers together have in memory now."""
        return sum(map(resident_bytes, self.workers()))

    def cpu_seconds(self) -> tuple[float, float]:
        """What the emulator has used since it was started, and all workers that run now."""
        return cpu_seconds(self._running().pid), sum(map(cpu_seconds, self.workers()))

    def log_text(self) -> str:
        return self._log_path.read_text(errors="replace")

    def _running(self) -> "subprocess.Popen[bytes]":
        self.ensure_alive()
        assert self._process
        return self._process

    def _spawn(self) -> "subprocess.Popen[bytes]":
        with self._log_path.open("ab") as log:
            return subprocess.Popen(
                [sys.executable, "-m", "tests.faults.processes.aws", str(self.folder)],
                env=server_environment(os.environ, self.port, self.folder) | PERSISTENT,
                cwd=ROOT, stdin=subprocess.PIPE, stdout=log, stderr=subprocess.STDOUT, start_new_session=True,
            )  # fmt: skip


def process_ids() -> list[int]:
    return [int(each.name) for each in Path("/proc").iterdir() if each.name.isdecimal()]


def group_of(pid: int) -> int | None:
    try:
        return os.getpgid(pid)
    except ProcessLookupError:
        return None


def function_name(pid: int) -> str:
    """`Ingest` of a worker of `stack-IngestFunction-0123456789AB`; empty if the process is no worker."""
    words = _read(pid, "cmdline").split("\0")
    _, _, path = next((each for each in words if each.endswith("/_worker.py")), "").rpartition("ministack-lambda-")
    return path.partition("Function-")[0].rpartition("-")[2]


def resident_bytes(pid: int) -> int:
    pages = _read(pid, "statm").split()
    return int(pages[1]) * os.sysconf("SC_PAGE_SIZE") if pages else 0


def cpu_seconds(pid: int) -> float:
    fields = _read(pid, "stat").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK") if fields else 0


def _read(pid: int, name: str) -> str:
    try:
        return Path(f"/proc/{pid}/{name}").read_text()
    except (FileNotFoundError, ProcessLookupError):  # it has ended
        return ""


def die_later(*_: Any) -> None:
    """As a signal's handler: die when the event loop, which serves all requests, has ended the one that it is at."""
    asyncio.get_running_loop().call_soon_threadsafe(die)


def die() -> None:
    """All states are copied first, while no other thread runs; then they are written."""
    from ministack import app  # type: ignore[import-untyped]
    from ministack.core.persistence import save_state  # type: ignore[import-untyped]

    sys.setswitchinterval(1000)
    states = {name: get_state() for name, get_state in app._build_persistence_save_dict().items()}
    for name, state in states.items():
        if state is not None:
            save_state(name, state)
    end_group()


def spare_the_others() -> None:
    """If a worker dies while it starts, the emulator would end all workers of its function; on AWS only it ends.

    A worker that is dead is started anew by its next invocation.
    """
    from ministack.services import lambda_svc  # type: ignore[import-untyped]

    lambda_svc.invalidate_worker = lambda *_, **__: None


if __name__ == "__main__":
    folder = sys.argv.pop()
    signal.signal(signal.SIGUSR1, die_later)
    threading.Thread(target=end_with_parent, args=[folder], daemon=True).start()
    spare_the_others()
    try:
        serve(folder)
    finally:
        end_group()
