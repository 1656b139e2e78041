"""The SAM CLI puts the functions' packages and the template into S3, where CloudFormation reads them."""

import fcntl
import hashlib
import os
import re
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from boto3.session import Session

from scripts.aws_session import OpsError
from scripts.deploy.view import console

ROOT = Path(__file__).parent.parent.parent
TEMPLATE = ROOT / "template.yaml"
BUILT = ROOT / ".aws-sam" / "build" / "template.yaml"
SAM = ROOT / ".venv-sam" / "bin" / "sam"
_BUCKET = re.compile(r"(?:CodeUri: s3://|S3Bucket: )([a-z0-9.-]+)")
_LAST_LINES = 30


def package(session: Session, built: Path | None, backend: str) -> str:
    """Build the packages for the stack's MemoryBackend, unless they are `built`, and upload them.

    Returns the template's address. Raises OpsError.
    """
    with _one_at_a_time((built or BUILT).parent.with_name("deploy.lock")):
        if not built:
            with console.status("Building the functions' packages, a minute or two ..."):
                _run(["make", "--no-print-directory", "-C", str(ROOT), "build", f"MEMORY_BACKEND={backend}"], {})
        check_built(built or BUILT, backend)
        with console.status("Uploading the packages ..."):
            return upload(session, built or BUILT)


@contextmanager
def _one_at_a_time(lock: Path) -> Iterator[None]:
    """Two builds in one folder would upload each other's packages."""
    lock.parent.mkdir(exist_ok=True)
    with lock.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise OpsError(
                "Another make deploy builds in this folder. Wait until it has uploaded its packages."
            ) from None
        yield


def check_built(built: Path, backend: str) -> None:
    """A package for the other Mem0 would make every memory fail."""
    writer = built.parent / "MemoryWriterFunction"
    if writer.is_dir() and (writer / "mem0").is_dir() != (backend == "oss"):
        raise OpsError(
            f"{built} was built for another MemoryBackend: build it with MEMORY_BACKEND={backend} make build"
        )


def upload(session: Session, built: Path) -> str:
    """Put packages and template into SAM's own bucket of this account and region; returns the template's address."""
    with tempfile.TemporaryDirectory() as folder:
        packaged = Path(folder) / "template.yaml"
        _run(
            [str(SAM), "package", "--resolve-s3", "--region", session.region_name, "--template-file", str(built),
             "--output-template-file", str(packaged)],
            {"AWS_REGION": session.region_name, "AWS_DEFAULT_REGION": session.region_name},
        )  # fmt: skip
        template = packaged.read_bytes()
    found = _BUCKET.search(template.decode())
    if not found:
        raise OpsError(f"{built} has no function whose package could be uploaded: run make build again.")
    s3, bucket, key = session.client("s3"), found[1], f"{hashlib.sha256(template).hexdigest()}.template"
    s3.put_object(Bucket=bucket, Key=key, Body=template)
    return f"{s3.meta.endpoint_url}/{bucket}/{key}"


def _run(command: Sequence[str], environment: Mapping[str, str]) -> None:
    """Run a command. Its output is shown only if it fails. Raises OpsError."""
    # Without the variables and the jobs that `make deploy` passes on to a make below it.
    inherited = {name: value for name, value in os.environ.items() if name not in ("MAKEFLAGS", "MAKELEVEL", "MFLAGS")}
    try:
        ran = subprocess.run(
            command, env={**inherited, "SAM_CLI_TELEMETRY": "0", **environment}, stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace", timeout=1800,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        raise OpsError(f"{Path(command[0]).name} took more than half an hour and was stopped.", code=1) from None
    if ran.returncode:
        for line in ran.stdout.splitlines()[-_LAST_LINES:]:
            console.print(line)
        raise OpsError(f"{' '.join([Path(command[0]).name, *command[1:2]])} failed; its last lines are above.", code=1)
