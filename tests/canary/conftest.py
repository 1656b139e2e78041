"""An endpoint on loopback that runs ingest and the archiver for each webhook, in moto."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import archiver.handler
import ingest.handler
from tests.conftest import Stack, sqs_event
from tests.processes import LONGEST


@contextmanager
def endpoint(aws: Stack, context: Any, meanwhile: Callable[[], None] = lambda: None) -> Iterator[str]:
    """The URL. `meanwhile` is called after each webhook is staged and before it is archived."""

    class Webhook(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"])).decode()
            answer = ingest.handler.lambda_handler({"body": body, "headers": dict(self.headers)}, context)
            meanwhile()
            for message in aws.take("ArchiveQueueUrl"):
                archiver.handler.lambda_handler(sqs_event(message["Body"]), context)
            content = answer["body"].encode()
            self.send_response(answer["statusCode"])
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Webhook)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/post-call"
    finally:
        server.shutdown()
        thread.join(LONGEST)
        server.server_close()
