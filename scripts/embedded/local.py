"""`make local`: template.yaml on the embedded AWS, up until Ctrl-C."""

import argparse
import fcntl
import json
import os
import signal
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from threading import Thread
from types import FrameType
from typing import NoReturn

from boto3.session import Session
from rich.console import Console
from rich.markup import escape

from scripts.api_client import Api
from scripts.aws_session import STACK_NAME, OpsError, isolated_session
from scripts.deploy.parameters import ASK, read_hidden, read_template, split
from scripts.embedded.aws import ROOT, EmbeddedAws, EmbeddedAwsError, PortBusyError
from scripts.embedded.deployment import TEMPLATE, UnknownParameterError, deploy
from scripts.embedded.translation import ConstantError, translate
from scripts.page import Page
from scripts.seed import seed

DEFAULT_PORT = "4566"
OUTPUTS = ROOT / ".local" / "outputs.json"

progress = Console(stderr=True, soft_wrap=True, highlight=False, emoji=False)


class SettingError(EmbeddedAwsError):
    """LOCAL_PORT or DEMO_CALLS cannot be read; the text says how to write it."""


class AlreadyRunningError(EmbeddedAwsError):
    """Another `make local` has the outputs; the text names its process and its address."""


# What the user can correct. Other errors are failures.
WRONG_SETTINGS = (AlreadyRunningError, ConstantError, PortBusyError, SettingError, UnknownParameterError)


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code: 0 after Ctrl-C or SIGTERM, 2 for a wrong setting or a busy port, 1 for other failures."""
    options = parser().parse_args(arguments)
    try:
        if options.command == "translate":
            print(json.dumps(translate(options.template), indent=2))
            return 0
        stop_on_signals()
        serve(options.template, options.outputs)
    except KeyboardInterrupt:
        progress.print("Stopped.")
        return 0
    except OpsError as error:
        progress.print(f"[red]{escape(str(error))}[/]")
        return error.code
    except EmbeddedAwsError as error:
        progress.print(f"[red]{escape(str(error))}[/]")
        return 2 if isinstance(error, WRONG_SETTINGS) else 1


def parser() -> argparse.ArgumentParser:
    described = argparse.ArgumentParser(prog="python -m scripts.embedded.local", description=__doc__)
    described.add_argument("command", nargs="?", choices=["run", "translate"], default="run")
    described.add_argument("--template", type=Path, default=TEMPLATE)
    described.add_argument("--outputs", type=Path, default=OUTPUTS)
    return described


def serve(template: Path, outputs: Path) -> NoReturn:
    """Keep the stack up; ends only by an exception: KeyboardInterrupt when asked to, EmbeddedAwsError otherwise."""
    port, has_demo_calls = read_port(os.environ), read_demo_calls(os.environ)
    parameters = ask_for_secrets(split(os.environ.get("PARAMETERS", "")), template)
    with alone(outputs, port), EmbeddedAws(port) as aws:
        outputs.unlink(missing_ok=True)  # of a run that was killed
        progress.print(f"Deploying {template.name} to the embedded AWS …")
        described = deploy(aws, STACK_NAME, parameters, template)
        with paged(described) as described, published(described, outputs):
            show(described, outputs)
            if has_demo_calls and "ApiUrl" in described:
                Thread(target=seed, args=[described], daemon=True).start()
            while True:
                aws.ensure_alive()
                time.sleep(0.5)


def read_port(environment: Mapping[str, str]) -> int:
    text = environment.get("LOCAL_PORT") or DEFAULT_PORT
    if not (text.isdecimal() and 0 < int(text) < 65536):
        raise SettingError(f"LOCAL_PORT is a number between 1 and 65535, not {text!r}.")
    return int(text)


def read_demo_calls(environment: Mapping[str, str]) -> bool:
    """Whether the stack gets the demo's calls: yes, unless DEMO_CALLS=no. Raises SettingError."""
    text = environment.get("DEMO_CALLS") or "yes"
    if text not in ("yes", "no"):
        raise SettingError(f"DEMO_CALLS is yes or no, not {text!r}.")
    return text == "yes"


@contextmanager
def paged(outputs: dict[str, str]) -> Iterator[dict[str, str]]:
    """Serve the page of the stack's calls for the time of the block; the outputs with its PageUrl."""
    if "ApiUrl" not in outputs:
        yield outputs
        return
    keys = (outputs["AccessKeyId"], outputs["SecretAccessKey"])
    session = Session(*keys, region_name=outputs["Region"], botocore_session=isolated_session())
    bucket_url = f"{outputs['AwsEndpointUrl']}/{outputs['BucketName']}"
    with Page(Api(outputs["ApiUrl"], session), bucket_url=bucket_url) as page:
        yield outputs | {"PageUrl": page.url}


def ask_for_secrets(parameters: Mapping[str, str], template: Path) -> dict[str, str]:
    """The parameters. It reads the secrets (NoEcho) whose value is `ask`. Raises OpsError."""
    declared = read_template(template) if ASK in parameters.values() else {}
    return {
        name: read_hidden(name) if value == ASK and name in declared and declared[name].is_secret else value
        for name, value in parameters.items()
    }


@contextmanager
def alone(outputs: Path, port: int) -> Iterator[None]:
    """Keep other runs away from the outputs for the time of the block. Raises AlreadyRunningError.

    The operating system frees the lock of a run that was killed.
    """
    outputs.parent.mkdir(parents=True, exist_ok=True)
    with outputs.with_suffix(".lock").open("a+") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.seek(0)
            other = lock.read() or "it has just begun"
            raise AlreadyRunningError(
                f"make local runs already: {other}. Use it, or end it with Ctrl-C before you start another one."
            ) from None
        lock.truncate(0)
        lock.write(f"process {os.getpid()}, http://127.0.0.1:{port}")
        lock.flush()
        yield


@contextmanager
def published(outputs: Mapping[str, str], path: Path) -> Iterator[None]:
    """Write the outputs to a file for the time of the block. Only its owner can read it, because of the secret."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_suffix(".draft")
    draft.touch(mode=0o600)
    draft.write_text(json.dumps(outputs, indent=2) + "\n")
    draft.replace(path)
    try:
        yield
    finally:
        path.unlink(missing_ok=True)


def show(outputs: Mapping[str, str], path: Path) -> None:
    console = Console(soft_wrap=True, highlight=False, emoji=False)
    for name, value in sorted(outputs.items()):
        console.print(f"[bold]{name:<22}[/] {escape(value)}")
    progress.print(f"\nThe same is in {path}. For the AWS CLI and boto3: AWS_ENDPOINT_URL={outputs['AwsEndpointUrl']}")
    progress.print(
        f"AWS_ACCESS_KEY_ID={outputs['AccessKeyId']} AWS_SECRET_ACCESS_KEY={outputs['SecretAccessKey']} "
        f"AWS_REGION={outputs['Region']}"
    )
    if "PageUrl" in outputs:
        progress.print(f"The page with its calls: {outputs['PageUrl']}")
    progress.print("[green]Ready.[/] Ctrl-C ends it and deletes everything in it.")


def stop_on_signals() -> None:
    """The first of Ctrl-C, SIGTERM and a closed terminal ends the run in good order; later ones are ignored.

    Under nohup a closed terminal does not end it.
    """
    under_nohup = signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    stopping = [signal.SIGINT, signal.SIGTERM, *([] if under_nohup else [signal.SIGHUP])]

    def stop(_number: int, _frame: FrameType | None) -> NoReturn:
        for each in stopping:
            signal.signal(each, signal.SIG_IGN)
        raise KeyboardInterrupt

    for each in stopping:
        signal.signal(each, stop)


if __name__ == "__main__":
    sys.exit(main())
