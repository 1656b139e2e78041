"""The embedded AWS: one emulator process on the loopback interface, in a folder that goes with it."""

import os
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import botocore.config
from boto3.session import Session

from scripts.aws_session import isolated_session

REGION = "us-east-1"
ROOT_KEY = "test"  # the emulator's root caller, both as key id and as secret
START_SECONDS = 30.0
STOP_SECONDS = 10.0
ROOT = Path(__file__).parents[2]
# No other variable is passed on: no AWS_*, no setting of the emulator, and no PYTHON*, which would reach the functions.
INHERITED = ("PATH", "LANG", "LC_ALL", "SSL_CERT_FILE", "HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy")


class EmbeddedAwsError(Exception):
    """The embedded AWS failed; the text says why and what to do.

    EmbeddedAwsError
    ├── PortBusyError         choose another port
    ├── EmulatorDiedError     the emulator ended; the text has its last log lines
    ├── TemplateError         the template is not valid
    ├── UnknownParameterError the template has no such parameter; the text lists those it has
    ├── ConstantError         the value of a constant is no whole number
    └── DeploymentError       a stack failed; the text names the resource and the reason
    """


class PortBusyError(EmbeddedAwsError):
    """Another process listens on the port."""


class EmulatorDiedError(EmbeddedAwsError):
    """The emulator ended, or never became ready."""


class EmbeddedAws:
    """An emulator for the duration of a `with` block. Its data and its processes end with the block.

    Port 0 means any free port. The emulator also ends when this process is killed: it watches a pipe that only this
    process keeps open.
    """

    def __init__(self, port: int = 0, log: Path | None = None) -> None:
        self.port = port
        self._log = log
        self._folder = tempfile.TemporaryDirectory(prefix="embedded-aws-", ignore_cleanup_errors=True)
        self.folder = Path(self._folder.name)
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def endpoint_url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def __enter__(self) -> Self:
        """Raises PortBusyError, and EmulatorDiedError if it does not answer within START_SECONDS."""
        try:
            self.port = free_port(self.port)
            self._process = self._spawn()
            self._wait_until_ready()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def client(self, service: str) -> Any:
        """A boto3 client of the emulator's root caller, whatever AWS settings this machine has."""
        return Session(botocore_session=isolated_session(), region_name=REGION).client(
            service,
            endpoint_url=self.endpoint_url,
            aws_access_key_id=ROOT_KEY,
            aws_secret_access_key=ROOT_KEY,
            config=botocore.config.Config(proxies={}, s3={"addressing_style": "path"}),
        )

    def ensure_alive(self) -> None:
        """Raise EmulatorDiedError if the emulator has ended by itself."""
        if self._process is None or self._process.poll() is not None:
            raise EmulatorDiedError(f"The embedded AWS stopped. Its last log lines:\n{self._last_log_lines()}")

    def stop(self) -> None:
        """End the emulator with its workers and remove its folder; calling it twice is harmless."""
        process, self._process = self._process, None
        if process is not None:
            end(process)
        self._folder.cleanup()

    def _spawn(self) -> subprocess.Popen[bytes]:
        with self._log_path.open("ab") as log:
            return subprocess.Popen(
                [sys.executable, "-m", "scripts.embedded.server", str(self.folder)],
                env=server_environment(os.environ, self.port, self.folder),
                cwd=ROOT,  # the server itself changes into the folder
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # so that Ctrl-C reaches only this process; the workers are in the new group
            )

    def _wait_until_ready(self) -> None:
        deadline = time.monotonic() + START_SECONDS
        while not answers(f"{self.endpoint_url}/_ministack/ready"):
            self.ensure_alive()
            if time.monotonic() > deadline:
                raise EmulatorDiedError(f"No answer within {START_SECONDS:.0f} s. Its log:\n{self._last_log_lines()}")
            time.sleep(0.05)
        self.ensure_alive()  # otherwise another process answered on the port

    @property
    def _log_path(self) -> Path:
        return self._log or self.folder / "emulator.log"

    def _last_log_lines(self) -> str:
        return "\n".join(self._log_path.read_text(errors="replace").splitlines()[-8:])


def free_port(port: int) -> int:
    """`port`, or a free one if it is 0. Raises PortBusyError if it is in use."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            raise PortBusyError(f"Port {port} is in use or not allowed: choose another one with LOCAL_PORT.") from error
        return int(probe.getsockname()[1])


def server_environment(environment: Mapping[str, str], port: int, folder: Path) -> dict[str, str]:
    """The environment of the emulator and of the functions: without the user's AWS settings and home folder."""
    inherited = {name: environment[name] for name in INHERITED if name in environment}
    return inherited | {
        "NO_PROXY": "127.0.0.1,localhost,::1",  # httpx refuses [::1] here
        "no_proxy": "127.0.0.1,localhost,::1",
        "HOME": str(folder),
        "TMPDIR": str(folder),
        "S3_DATA_DIR": str(folder / "s3"),
        "STATE_DIR": str(folder / "state"),
        "BIND_HOST": "127.0.0.1",
        "MINISTACK_HOST": "127.0.0.1",
        "GATEWAY_PORT": str(port),
        "AUTH": "true",
        "IOT_MTLS_ENABLED": "0",  # otherwise it also listens on port 8883
        "SFTP_ENABLED": "0",
    }


def answers(url: str) -> bool:
    """Whether a GET without a proxy is answered with 200."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(url, timeout=2) as response:
            return bool(response.status == 200)
    except (urllib.error.URLError, OSError):
        return False


def end(process: subprocess.Popen[bytes]) -> None:
    """Close the pipe that the emulator watches: it kills itself and its workers. Wait until they are gone."""
    if process.stdin:
        process.stdin.close()
    try:
        process.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait(STOP_SECONDS)
    deadline = time.monotonic() + 2
    while group_exists(process.pid) and time.monotonic() < deadline:
        time.sleep(0.01)


def group_exists(group: int) -> bool:
    try:
        os.killpg(group, 0)  # signal 0 only checks
    except (ProcessLookupError, PermissionError):
        return False
    return True
