"""Inputs for the fuzzer: requests, staged bodies, claim checks and announcements. The same random gives the same."""

import base64
import gzip
import json
from dataclasses import dataclass, field
from datetime import datetime
from random import Random
from typing import Any, Literal

from shared.signature import sign
from tests.conftest import FIXTURES, SECRET

Form = Literal["text", "base64", "text that claims base64", "base64 that claims text"]
MB_6 = 6_000_000  # what Lambda takes in a request
BODIES = [path.read_bytes() for path in sorted(FIXTURES.glob("*.json"))]
# A call of unknown time, so that the claim check's is used.
SAMPLE = next(FIXTURES.glob("02*")).read_bytes().replace(b'"event_timestamp"', b'"x"')
SAMPLE = SAMPLE.replace(b'"start_time_unix_secs"', b'"x"')
SAMPLE_TEXTS = ("12025550123", "2025550123", "mooring")
IDS = ["../../x", "a/b", "..", "", "%2e%2e%2f", "conv\n1", "kön", "x" * 128, "x" * 129, "conv_1", "12025550123"]
NUMBERS = [
    "+12025550123", "0012025550123", "sip:+12025550134@host", "tel:+1-202-555-0145", "anonymous", "266696687", "+",
    "+1 (202) 555‑0123", "12025550123;ext=5", "++12025550123", "+1202555012٣", "sip:%2B12025550123@x", "sip:" * 900,
    "+1" + "2" * 14, "whatsapp:12025550156", "(" * 900, "1 " * 900,
]  # fmt: skip
TIMES = ["2026-03-03T15:04:38Z", "0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00", "1772550278", "nan", "1_0"]
AUDIO = ["SUQz", "QUJ", "====", "SU Qz", "SUQz\n", "data:audio/mp3;base64,SUQz", "-_-_", "\u0000"]
# JSON that a program of ours may not expect, as it stands in a body.
RAW = [
    b"null", b"true", b"0", b"-1", b"-0", b"7", b"[]", b"{}", b"[[]]", b"[{}]", b'{"a":1}', b"1e300", b"1e400", b"NaN",
    b"1.0e-400", b"9" * 400, b"9" * 5000, b"-" + b"9" * 30, b"Infinity", b'"\\ud83d"', b'"\\ud83d\\ud83d"',
    b'"\\uf8ff"', b'"\xef\xa3\xbf"', b'"\\u0000"', b'"\x00"', b'"\\udc00\\u0041"', b"[" * 50 + b"]" * 50,
    b'{"a":' * 900 + b"1" + b"}" * 900, b"[" * 20_000 + b"]" * 20_000, b"12025550123", b"1.2025550123e10",
    b"1772550278.5", b"253402300800", b'"\\u0053UQz"', b"01", b"tru", b'"\\x"', b'"\\u12"', b"1.", b'{"a":1,"a":2}',
    b'"' + b"\\n" * 500 + b'"', b'"' + b"y" * 9000 + b'"',
]  # fmt: skip
ODD = RAW + [json.dumps(text).encode() for text in IDS + NUMBERS + TIMES + AUDIO]
FIELDS = [
    "type", "event_timestamp", "data", "data.conversation_id", "data.agent_id", "data.full_audio", "data.status",
    "data.has_audio", "data.user_id", "data.transcript", "data.transcript.0", "data.metadata", "data.analysis",
    "data.metadata.start_time_unix_secs", "data.metadata.call_duration_secs", "data.metadata.phone_call",
    "data.metadata.phone_call.external_number", "data.metadata.phone_call.direction", "data.metadata.caller_id",
    "data.metadata.sms", "data.metadata.sms.sms_user_phone_number", "data.metadata.whatsapp.whatsapp_user_id",
    "data.metadata.body", "data.metadata.body.To", "data.external_number", "data.call_duration", "data.otlp_traces",
    "data.conversation_initiation_client_data.dynamic_variables.system__caller_id", "data.analysis.call_successful",
    "data.analysis.transcript_summary", "data.analysis.evaluation_criteria_results", "conversation_id", "full_audio",
    "data.conversation_initiation_client_data.user_id",
]  # fmt: skip
GENUINE = [
    "t={t},v0={v0}", "v0={v0},t={t}", "t={t},v0={forged},v0={v0}", "t={t},v0={v0},v0={forged}",
    "t={t},v1=abc,v0={v0},x", "t={t},v0=,v0={v0}", ",t={t},v0={v0},", "t={t},v0={v0},v0=é", "T=1,t={t},v0={v0}",
    "t={t},v0={v0},t2=5",
]  # fmt: skip
DOUBTFUL = [
    "", "t={t}", "v0={v0}", "t={t},v0=", "t={t},v0", "t=,v0={v0}", "t={t},t={t},v0={v0}", "t=١٧٧٢٥٥٠٢٨٠,v0={v0}",
    f"t={'9' * 5000},v0={{v0}}", "t=-5,v0={v0}", "t={t}.0,v0={v0}", "t=\x00{t},v0={v0}", "t=+{t},v0={v0}",
    "t=1e9,v0={v0}", "t={t},v0={V0}", " t={t},v0={v0}", "t={t}, v0={v0}", "t={t};v0={v0}", "t={t},v0={v0}\x00",
    "t={t},v0=\ud800", "🙂",
    "," * 9000, "v0=," * 5000, "t={t}," + "v0={forged}," * 300, "sha256={v0}", "t={t},v0={forged}", "t={t},v0={empty}",
    "t={t},v0={old}", "t={t},v0={other}", "t=0,v0={v0}", "t=999999999999,v0={v0}", "t=99999999999999999999,v0={v0}",
]  # fmt: skip


@dataclass(frozen=True)
class Request:
    """A webhook. Its header gets time and signatures when it is sent: a seed gives the same requests on any day."""

    body: bytes
    header: str | None = GENUINE[0]
    late: int = 0  # seconds
    form: Form = "text"
    name: str = "elevenlabs-signature"
    changes: dict[str, Any] = field(default_factory=dict)

    @property
    def is_genuine(self) -> bool:
        """Whether ElevenLabs could have sent it so: it must be accepted. Not known to be so does not mean forged."""
        kept = self.form == "base64" or (self.form == "text" and _is_text(self.body))
        is_named = self.name.lower() == "elevenlabs-signature" and self.header in GENUINE and not self.changes
        return bool(self.body) and kept and is_named and -290 <= self.late <= 3590

    def event(self, now: datetime) -> dict[str, Any]:
        """The request in the form of an HTTP API or a function URL, payload format 2.0."""
        plain = self.form in ("text", "text that claims base64")
        text = self.body.decode(errors="surrogateescape") if plain else base64.b64encode(self.body).decode()
        headers = {"content-type": "application/json"}
        if self.header is not None:
            headers[self.name] = self._signed(int(now.timestamp()) - self.late)
        return {
            "version": "2.0", "rawPath": "/post-call", "headers": headers, "body": text,
            "isBase64Encoded": self.form in ("base64", "text that claims base64"),
        } | self.changes  # fmt: skip

    def _signed(self, timestamp: int) -> str:
        t, header = str(timestamp), self.header or ""
        values = {
            "t": t, "v0": sign(self.body, t, SECRET), "V0": sign(self.body, t, SECRET).upper(),
            "empty": sign(self.body, t, ""), "forged": sign(self.body, t, "wsec_forged"),
            "old": sign(self.body, str(timestamp - 1), SECRET), "other": sign(b"other", t, SECRET),
        }  # fmt: skip
        for name, value in values.items():
            header = header.replace(f"{{{name}}}", value)
        return header


@dataclass(frozen=True)
class Delivery:
    """Bodies of ElevenLabs, staged and archived one after the other."""

    bodies: tuple[bytes, ...]


@dataclass(frozen=True)
class Message:
    """A message of ours that someone has changed, to the archiver or the memory writer; the staged body is there."""

    text: str
    to: Literal["archiver", "memory_writer"]


def request(random: Random) -> Request:
    changes = [
        {"headers": None},
        {"headers": {}},
        {"body": None},
        {"body": ""},
        {"isBase64Encoded": None},
        {"body": "é"},
    ]
    header: str | None = random.choice(GENUINE if random.random() < 0.5 else DOUBTFUL)
    if random.random() < 0.15:
        header = _mutated_text(header or "", random)
    names = ["elevenlabs-signature"] * 5 + ["ElevenLabs-Signature", "ELEVENLABS-SIGNATURE", "elevenlabs_signature"]
    return Request(
        body(random, random.random() < 0.002),
        None if random.random() < 0.03 else header,
        random.choice([0] * 8 + [60, 2400, 3590, 3700, 10**6, -290, -400, -(10**9)]),
        random.choice(["text"] * 4 + ["base64"] * 3 + ["text that claims base64", "base64 that claims text"]),
        random.choice(names) if random.random() < 0.9 else "x-signature",
        random.choice(changes) if random.random() < 0.06 else {},
    )


def delivery(random: Random) -> Delivery:
    return Delivery(tuple(body(random, random.random() < 0.001) for _ in range(random.choice([1, 1, 1, 1, 2, 3]))))


def message(random: Random, check: str, announcement: str) -> Message:
    """A claim check or an announcement: valid, or with a few changes."""
    to: Literal["archiver", "memory_writer"] = random.choice(["archiver", "memory_writer"])
    text = check if to == "archiver" else announcement
    if random.random() < 0.8:
        text = _with_odd_value(text.encode(), random, list(json.loads(text))).decode(errors="replace")
    return Message(_mutated_text(text, random) if random.random() < 0.3 else text, to)


def body(random: Random, is_large: bool = False) -> bytes:
    """A real payload with a few changes, or no payload at all."""
    if is_large:
        return _swollen(random.choice(BODIES), random, MB_6 - 20_000)
    if random.random() < 0.05:
        return random.randbytes(random.choice([0, 1, 2, 16, 300, 3000]))
    made = random.choice(BODIES)
    for _ in range(random.choice([0, 1, 1, 1, 2, 3])):
        made = random.choice(MUTATIONS)(made, random)
    return made[:MB_6]


def _with_odd_value(text: bytes, random: Random, paths: list[str] | None = None, odd: bytes | None = None) -> bytes:
    """JSON with another value in one of its fields. What is no JSON is left as it is."""
    try:
        tree = json.loads(text)
    except (ValueError, RecursionError):
        return text
    *path, last = random.choice(paths or FIELDS).split(".")
    place = tree
    for name in path:
        place = place[int(name)] if isinstance(place, list) and name.isdigit() and place else place
        place = place.setdefault(name, {}) if isinstance(place, dict) else place
    if not isinstance(place, dict):
        return text
    if random.random() < 0.1:
        place.pop(last, None)
    else:
        place[last] = "@odd@"
    written = json.dumps(tree, indent=random.choice([None, 2]), ensure_ascii=random.random() < 0.5)
    return written.encode(errors="replace").replace(b'"@odd@"', odd or random.choice(ODD), 1)


def _swollen(text: bytes, random: Random, size: int = 100_000) -> bytes:
    piece = random.choice([b"{}", b"0", b"[]", b'"\\ud83d"', b'{"role":"user","message":"Hello"}', b'"\\n"', b'""'])
    return _with_odd_value(text, random, odd=b"[%s]" % b",".join([piece] * (size // (len(piece) + 1))))


def _doubled_key(text: bytes, random: Random) -> bytes:
    name = random.choice(FIELDS).rpartition(".")[2].encode()
    return _at_brace(text, random, b'"%s":%s,' % (name, random.choice(ODD)))


def _at_brace(text: bytes, random: Random, inserted: bytes) -> bytes:
    places = [place + 1 for place, byte in enumerate(text) if byte == ord("{")] or [0]
    place = random.choice(places[:20])
    return text[:place] + inserted + text[place:]


def _flipped(text: bytes, random: Random) -> bytes:
    changed = bytearray(text or b"0")
    for _ in range(random.choice([1, 1, 5])):
        changed[random.randrange(len(changed))] ^= 1 << random.randrange(8)
    return bytes(changed)


def _cut(text: bytes, random: Random) -> bytes:
    first, last = sorted(random.randrange(len(text) + 1) for _ in range(2))
    return random.choice([text[:first], text[last:], text[:first] + text[last:]])


def _spliced(text: bytes, random: Random) -> bytes:
    other = random.choice(BODIES)
    return text[: random.randrange(len(text) + 1)] + other[random.randrange(len(other)) :]


def _wrapped(text: bytes, random: Random) -> bytes:
    others = [random.choice(BODIES) for _ in range(random.choice([0, 0, 1, 3]))]
    joined = b",".join([text, *others])
    return random.choice([b"[%s]", b"[%s]", b"[[%s]]", b'{"data":%s}', b"[%s,7]", b"[%s,]"]) % joined


def _recoded(text: bytes, random: Random) -> bytes:
    ways = [
        b"\xef\xbb\xbf" + text, gzip.compress(text, mtime=0), text + b"\x00", b"\x00" + text, b" \n" + text + b"\t",
        text + text, text.decode("latin-1").encode("utf-16"), text.decode("latin-1").encode(), b"\x0b" + text,
        text.replace(b":", b" : "), text.replace(b'"', b"'"), b"\xef\xbb\xbf" * 2 + text,
    ]  # fmt: skip
    return random.choice(ways)


MUTATIONS = [*[_with_odd_value] * 6, _doubled_key, _flipped, _cut, _spliced, _wrapped, _recoded, _swollen]


def _mutated_text(text: str, random: Random) -> str:
    """With a character that is new, gone or doubled."""
    place = random.randrange(len(text) + 1)
    inserted = random.choice(["", "0", ",", "=", "\x7f", "é", "٣", " ", "🙂", text[place : place + 20], '"', "../"])
    return text[:place] + inserted + text[place + random.choice([0, 1, 5]) :]


def _is_text(body: bytes) -> bool:
    try:
        return bool(body.decode() or not body)
    except UnicodeDecodeError:
        return False
