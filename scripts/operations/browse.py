"""`ops browse`: the page on which calls are found, read and heard."""

import time
import webbrowser
from typing import Annotated

import typer

from scripts.aws_session import OpsError
from scripts.operations.reading import api_of
from scripts.operations.stack import Stack
from scripts.operations.view import View
from scripts.page import Page


def browse(
    context: typer.Context,
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port on this machine. 0: any free port.")] = 0,
    is_opened: Annotated[bool, typer.Option("--open/--no-open", help="Open the page in the browser.")] = True,
) -> None:
    """Show the page with all calls, until you press Ctrl-C.

    The page is served on this machine only. Its requests are signed with your AWS credentials, so you see what your
    credentials may read. Other users of this machine can open the page too, while it is served.

    Example: ops browse --stack my-stack
    """
    view: View = context.obj
    with open_page(view.stack, port) as page:
        if view.as_json:
            view.print_json({"url": page.url})
        else:
            print(page.url, flush=True)
        view.progress.print("Ctrl-C ends it.")
        if is_opened:
            webbrowser.open(page.url)
        try:
            while True:
                time.sleep(3600)
        except KeyboardInterrupt:
            view.progress.print("Stopped.")


def open_page(stack: Stack, port: int) -> Page:
    """Raises OpsError."""
    bucket_url = f"{stack.endpoint_url}/{stack.output('BucketName')}" if stack.endpoint_url else ""
    try:
        return Page(api_of(stack), port, bucket_url=bucket_url)
    except OSError as error:
        raise OpsError(f"The page cannot be served on port {port}: {error.strerror}. Choose another --port.") from None
