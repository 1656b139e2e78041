"""The operators' check of the way into S3, run as they run it, against a stack that is well and against others."""

import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from base64 import b64decode
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

import scripts.test_s3_storage as script
from scripts.embedded.aws import REGION, ROOT_KEY, EmbeddedAws
from tests.pipeline.conftest import Pipeline
from tests.processes import LONGEST, started

ROOT = Path(__file__).parents[2]
SCRIPT = "scripts/test_s3_storage.py"
HEADINGS = ["STEP 1: Send webhook to PostCall endpoint", "STEP 2: Verify files in S3", "TEST SUMMARY"]
NOWHERE = "http://127.0.0.1:9"
Put = dict[str, Any]


@pytest.fixture(scope="module")
def pipeline(emulator: EmbeddedAws) -> Pipeline:
    return Pipeline(emulator, "storage", {"BucketName": "agentic-memory-storage"})


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the script needs of the project, in a folder that has no .env of a developer's."""
    folder = tmp_path_factory.mktemp("project")
    for part in ("scripts", "shared", "ingest", "tests/fixtures"):
        shutil.copytree(ROOT / part, folder / part)
    return folder


@pytest.fixture
def variables(pipeline: Pipeline) -> dict[str, str]:
    """All that a run sees of the environment, and no setting of this machine's."""
    return {
        "ELEVENLABS_POST_CALL_URL": pipeline.outputs["PostCallUrl"],
        "ELEVENLABS_HMAC_KEY": pipeline.outputs["WebhookSecret"],
        "S3_BUCKET_NAME": pipeline.bucket,
        "AWS_ENDPOINT_URL": pipeline.outputs["AwsEndpointUrl"],
        "AWS_REGION": REGION,
        "AWS_ACCESS_KEY_ID": ROOT_KEY,
        "AWS_SECRET_ACCESS_KEY": ROOT_KEY,
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        "AWS_EC2_METADATA_DISABLED": "true",
        "PATH": os.environ["PATH"],
    }


@pytest.fixture
def start(project: Path, tmp_path: Path) -> Iterator[Callable[..., Any]]:
    """Start the script in a process of its own, as a file and in an empty folder unless told otherwise."""
    with ExitStack() as processes:

        def start(variables: dict[str, str], *words: str, how: tuple[str, ...] = (), cwd: Path = tmp_path) -> Any:
            command = [sys.executable, *(how or [str(project / SCRIPT)]), *words]
            pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
            return processes.enter_context(started(command, cwd=cwd, env=variables, **pipes))

        yield start


@pytest.fixture
def execute(start: Callable[..., Any]) -> Callable[..., tuple[int, str, str]]:
    """Exit code, stdout and stderr of the script in a process of its own."""

    def execute(*arguments: Any, **options: Any) -> tuple[int, str, str]:
        process = start(*arguments, **options)
        out, err = process.communicate(timeout=LONGEST)
        return process.returncode, out, err

    return execute


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Any:
    """Exit code, stdout and stderr of the script in this process, which is quicker."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(script, "ROOT", tmp_path)
    monkeypatch.delenv("AWS_PROFILE", raising=False)

    def run(variables: dict[str, str], *words: str) -> tuple[int, str, str]:
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        code = script.main(words)
        written = capsys.readouterr()
        return code, written.out, written.err

    return run


def headings(out: str) -> list[str]:
    return [line for line in out.splitlines() if line in HEADINGS or line.startswith(("STEP", "TEST"))]


def faults(out: str) -> list[str]:
    """What the summary says is wrong."""
    return [line for line in out.partition("TEST SUMMARY")[2].splitlines() if line.startswith("✗")]


@pytest.mark.parametrize("how", [(SCRIPT,), ("-m", "scripts.test_s3_storage")], ids=["as a file", "as a module"])
def test_a_stack_that_is_well_passes(pipeline, project, variables, execute, how):
    code, out, err = execute(variables, how=how, cwd=project)

    conversation_id = re.findall(r"Conversation +(conv_storage_test_\w+)", out)[0]
    key = f"12025550199/{conversation_id}"
    body = {extension: pipeline.body(f"{key}.{extension}") for extension in ("json", "mp3")}
    assert (code, headings(out), faults(out)) == (0, HEADINGS, [])
    assert out.count(conversation_id) == 6
    assert out.count("+12025550199") == 3
    assert "  Audio          present\n" in out
    for name, extension, content_type in (("JSON", "json", "application/json"), ("MP3", "mp3", "audio/mpeg")):
        stored_at = pipeline.head(f"{key}.{extension}")["LastModified"].strftime("%Y-%m-%dT%H:%M:%SZ")
        assert (
            f"{name}: {key}.{extension}\n"
            f"  Size           {len(body[extension]):,} bytes\n"
            f"  Content type   {content_type}\n"
            f"  Stored at      {stored_at}\n"
        ) in out
        assert f"{key}.{extension} is there, " in err
    call = json.loads(body["json"])
    assert (call["conversation_id"], call["has_audio"]) == (conversation_id, True)
    assert body["mp3"].startswith(b"\xff\xf3")
    assert out.endswith(f"PASSED: the call is stored as it was sent ({conversation_id})\n")


def test_the_environment_wins_over_the_folders_file_and_that_over_the_projects(variables, project, execute, tmp_path):
    wrong = {"ELEVENLABS_HMAC_KEY": "wrong", "S3_BUCKET_NAME": "wrong"}
    write_env(project, variables | wrong)
    write_env(tmp_path, {"ELEVENLABS_HMAC_KEY": variables["ELEVENLABS_HMAC_KEY"], "S3_BUCKET_NAME": "wrong"})

    code, out, _ = execute(without(variables, "ELEVENLABS_POST_CALL_URL", "ELEVENLABS_HMAC_KEY"))

    (project / ".env").unlink()
    assert (code, faults(out)) == (0, [])


def without(variables: dict[str, str], *names: str) -> dict[str, str]:
    return {name: value for name, value in variables.items() if name not in names}


def write_env(folder: Path, variables: dict[str, str]) -> None:
    (folder / ".env").write_text("".join(f"{name}={value}\n" for name, value in variables.items()))


def test_missing_variables_are_named(variables, project, execute, tmp_path):
    code, out, err = execute(without(variables, "ELEVENLABS_POST_CALL_URL") | {"S3_BUCKET_NAME": ""})

    assert (code, out) == (1, "")
    assert err == (
        "Not set: ELEVENLABS_POST_CALL_URL, S3_BUCKET_NAME. Export each, or write it as NAME=value into "
        f"{tmp_path}/.env or {project}/.env; --help says where its value is found.\n"
    )


def test_a_file_that_cannot_be_read_is_named(variables, execute, tmp_path):
    (tmp_path / ".env").write_bytes(b"S3_BUCKET_NAME=\xff\n")

    code, _, err = execute(variables)

    assert code == 1
    assert err.startswith(f"{tmp_path}/.env cannot be read: ")


def test_a_python_without_the_packages_is_sent_to_the_right_one(variables, project, execute):
    code, out, err = execute(variables, how=("-S", SCRIPT), cwd=project)

    assert (code, out) == (1, "")
    assert err == (
        "No module named 'httpx'. Run this with the project's own Python, .venv/bin/python; "
        "`make .venv/ready` sets it up.\n"
    )


def test_the_help_explains_every_variable(execute):
    code, out, _ = execute({}, "--help")

    assert code == 0
    assert re.findall(r"^  (\w+) +.*the stack's output (\w+)", out, re.MULTILINE) == [
        ("ELEVENLABS_POST_CALL_URL", "PostCallUrl"),
        ("ELEVENLABS_HMAC_KEY", "WebhookSecretArn"),
        ("S3_BUCKET_NAME", "BucketName"),
    ]
    assert "AWS_ENDPOINT_URL" in out


WRONG_URL = "that is not the endpoint: ELEVENLABS_POST_CALL_URL is the stack's output PostCallUrl, with its path"


@pytest.mark.parametrize(
    ("variable", "value", "fault"),
    [
        pytest.param(
            "ELEVENLABS_HMAC_KEY", "another",
            "HTTP 401: the key in ELEVENLABS_HMAC_KEY is not the one in the stack's secret, or this machine's clock is "
            "wrong", id="another key",
        ),
        pytest.param("ELEVENLABS_POST_CALL_URL", "{}s", f"HTTP 404: {WRONG_URL}", id="another path"),
        pytest.param("ELEVENLABS_POST_CALL_URL", NOWHERE, "the endpoint cannot be reached: [Errno ", id="out of reach"),
        pytest.param("ELEVENLABS_POST_CALL_URL", "calls", "the endpoint cannot be reached: Request URL ", id="no URL"),
    ],
)  # fmt: skip
def test_a_webhook_that_is_not_accepted_ends_the_check(variables, run, variable, value, fault):
    code, out, _ = run(variables | {variable: value.format(variables[variable])})

    assert (code, headings(out)) == (1, [HEADINGS[0], HEADINGS[2]])
    assert [line.startswith(f"✗ post_call_transcription: {fault}") for line in faults(out)] == [True]
    assert "\nFAILED (conv_storage_test_" in out


@pytest.mark.parametrize(
    ("changed", "fault"),
    [
        pytest.param(
            {"S3_BUCKET_NAME": "nobodys"},
            "bucket nobodys: there is no such bucket: S3_BUCKET_NAME is the stack's output BucketName (NoSuchBucket)",
            id="no such bucket",
        ),
        pytest.param(
            {"S3_BUCKET_NAME": "s3://calls"}, "bucket s3://calls: S3_BUCKET_NAME is not a bucket name: ", id="no name"
        ),
        pytest.param(
            {"AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": ""},
            "bucket agentic-memory-storage: there are no AWS credentials: ", id="no credentials",
        ),
        pytest.param(
            {"AWS_ENDPOINT_URL": NOWHERE}, "bucket agentic-memory-storage: S3 cannot be reached: ", id="out of reach"
        ),
        pytest.param({"AWS_PROFILE": "nobody"}, "There is no AWS profile 'nobody': ", id="no profile"),
        pytest.param({"AWS_ENDPOINT_URL": "s3"}, "your AWS settings are wrong: Invalid endpoint: s3", id="no URL"),
    ],
)  # fmt: skip
def test_a_bucket_that_cannot_be_read_ends_the_check(variables, run, changed, fault):
    code, out, _ = run(variables | changed)

    assert (code, headings(out)) == (1, HEADINGS)
    assert [line.startswith(f"✗ S3, {fault}" if "bucket" in fault else f"✗ S3: {fault}") for line in faults(out)] == [
        True
    ]


def test_credentials_that_may_not_read_the_bucket_are_told_what_they_lack(emulator, variables, run):
    iam = emulator.client("iam")
    iam.create_user(UserName="nobody")
    key = iam.create_access_key(UserName="nobody")["AccessKey"]

    code, out, _ = run(
        variables | {"AWS_ACCESS_KEY_ID": key["AccessKeyId"], "AWS_SECRET_ACCESS_KEY": key["SecretAccessKey"]}
    )

    assert code == 1
    assert faults(out) == [
        "✗ S3, bucket agentic-memory-storage: access denied: your AWS credentials need s3:GetObject and s3:ListBucket "
        "on the bucket (AccessDenied)"
    ]


@pytest.fixture
def other_bucket(pipeline: Pipeline) -> str:
    pipeline.s3.create_bucket(Bucket="somebody-elses")
    return "somebody-elses"


def test_files_that_never_come_are_missed_when_the_time_is_up(variables, other_bucket, run):
    began = time.monotonic()

    code, out, err = run(variables | {"S3_BUCKET_NAME": other_bucket}, "--wait", "1")

    assert time.monotonic() - began < 30
    assert (code, headings(out)) == (1, HEADINGS)
    assert "  Audio          not present\n" in out
    assert [line.partition(" in time. ")[0] for line in faults(out)] == [
        "✗ JSON: it did not arrive",
        "✗ MP3: it did not arrive",
    ]
    assert err == "Waiting for the archiver, 1 s at most ...\n"


def test_ctrl_c_ends_it_without_a_stack_trace(variables, other_bucket, start):
    process = start(variables | {"S3_BUCKET_NAME": other_bucket})
    process.stderr.readline()

    process.send_signal(signal.SIGINT)

    _, err = process.communicate(timeout=30)
    assert process.returncode == 1
    assert err.endswith("Interrupted.\n")
    assert "Traceback" not in err


@contextmanager
def answering(answer: Callable[[bytes], bytes | None]) -> Iterator[str]:
    """The URL of an endpoint that answers 200 with what `answer` makes of a body, and hangs up if that is None."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            content = answer(self.rfile.read(int(self.headers["Content-Length"])))
            if content is not None:
                self.send_response(200)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

        def log_message(self, *_: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/post-call"
        server.shutdown()


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        pytest.param(b"<p>Welcome!</p>", f"HTTP 200 without a delivery_id: {WRONG_URL}", id="a page"),
        pytest.param(b"[]", f"HTTP 200 without a delivery_id: {WRONG_URL}", id="other JSON"),
        pytest.param(b"{}", f"HTTP 200 without a delivery_id: {WRONG_URL}", id="no id"),
        pytest.param(None, "no answer from the endpoint: Server disconnected without sending a response.", id="none"),
    ],
)
def test_an_endpoint_that_is_not_ingest_is_found_out(variables, run, content, fault):
    with answering(lambda _: content) as url:
        code, out, _ = run(variables | {"ELEVENLABS_POST_CALL_URL": url})

    assert (code, faults(out)) == (1, [f"✗ post_call_transcription: {fault}"])


def unchanged(put: Put) -> Put:
    return put


def cut(put: Put) -> Put:
    return put | {"Body": put["Body"][:-1]}


def without_status(put: Put) -> Put:
    return put | {
        "Body": json.dumps({name: value for name, value in json.loads(put["Body"]).items() if name != "status"})
    }


def with_more(put: Put) -> Put:
    return put | {"Body": json.dumps(json.loads(put["Body"]) | {"more": None})}


def as_text(put: Put) -> Put:
    return put | {"ContentType": "text/plain"}


def of_another(put: Put) -> Put:
    return put | {"Metadata": put["Metadata"] | {"external_number": "+12025550100"}}


def nameless(put: Put) -> Put:
    return put | {"Metadata": {"external_number": put["Metadata"]["external_number"]}}


@pytest.mark.parametrize(
    ("spoil_json", "spoil_mp3", "found"),
    [
        pytest.param(unchanged, unchanged, [], id="well"),
        pytest.param(without_status, unchanged, ["JSON: not the data that was sent: it differs in status"], id="less"),
        pytest.param(with_more, unchanged, ["JSON: not the data that was sent: it differs in more"], id="more"),
        pytest.param(cut, unchanged, ["JSON: not a JSON object"], id="JSON cut"),
        pytest.param(unchanged, cut, ["MP3: not the 127,872 bytes that were sent"], id="MP3 cut"),
        pytest.param(as_text, unchanged, ["JSON: the content type is not application/json"], id="type of JSON"),
        pytest.param(unchanged, as_text, ["MP3: the content type is not audio/mpeg"], id="type of MP3"),
        pytest.param(
            of_another, unchanged, ["JSON: the metadata does not have external_number = +12025550199"], id="number"
        ),
        pytest.param(
            unchanged, nameless, ["MP3: the metadata does not have conversation_id = conv_"], id="conversation"
        ),
    ],
)
def test_a_stack_that_stores_something_else_fails(pipeline, variables, run, spoil_json, spoil_mp3, found):
    """An endpoint that stores by itself, rightly but for what is spoilt."""
    calls = []

    def store(body: bytes) -> bytes:
        webhook = json.loads(body)
        data = webhook["data"]
        calls.append(data["conversation_id"])
        key = f"12025550199/{data['conversation_id']}"
        put: Put = {"Metadata": {"conversation_id": data["conversation_id"], "external_number": "+12025550199"}}
        if webhook["type"] == "post_call_audio":
            put |= {"Key": f"{key}.mp3", "ContentType": "audio/mpeg", "Body": b64decode(data["full_audio"])}
            put = spoil_mp3(put)
        else:
            put |= {"Key": f"{key}.json", "ContentType": "application/json", "Body": json.dumps(data)}
            put = spoil_json(put)
        pipeline.s3.put_object(Bucket=pipeline.bucket, **put)
        return json.dumps({"delivery_id": hashlib.sha256(body).hexdigest()}).encode()

    with answering(store) as url:
        code, out, _ = run(variables | {"ELEVENLABS_POST_CALL_URL": url})

    assert code == (1 if found else 0)
    assert [line.replace(calls[0], "conv_") for line in faults(out)] == [f"✗ {each}" for each in found]


def test_pytest_finds_no_test_in_the_script():
    assert [name for name in vars(script) if name.lower().startswith("test")] == []
