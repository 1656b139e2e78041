"""The verifier: a fixed test vector, and valid and invalid headers."""

from datetime import datetime, timedelta, timezone

import pytest

from ingest.signature import verify
from shared.errors import SignatureError
from shared.signature import sign

# Computed with OpenSSL: `printf '%s' '1772550280.{"type":"x"}' | openssl dgst -sha256 -hmac wsec_test`.
BODY = b'{"type":"x"}'
SECRET = "wsec_test"
SIGNATURE = "2e83908a24f875113c7024e5d443c365bf8c3df7cce1cab50d941569c501b6b4"
NOW = datetime.fromtimestamp(1772550280, timezone.utc)
GOOD = f"t=1772550280,v0={SIGNATURE}"


def check(header: str | None, body: bytes = BODY, secrets: tuple[str, ...] = (SECRET,), now: datetime = NOW) -> None:
    verify(body, header, secrets, now, max_age=timedelta(minutes=60), max_ahead=timedelta(minutes=5))


@pytest.mark.parametrize(
    "header",
    [
        pytest.param(GOOD, id="as documented"),
        pytest.param(f"v0={SIGNATURE},t=1772550280", id="parts in another order"),
        pytest.param(f"t=1772550280,v1=abc,scheme,v0={SIGNATURE}", id="unknown parts"),
        pytest.param(f"t=1772550280,v0={'0' * 64},v0={SIGNATURE}", id="second of two signatures"),
        pytest.param(f"t=1772550280,v0={SIGNATURE},v0={'0' * 64}", id="first of two signatures"),
    ],
)
def test_a_good_signature_passes(header):
    check(header)


@pytest.mark.parametrize(
    ("header", "reason"),
    [
        pytest.param(None, "missing", id="none"),
        pytest.param("", "missing", id="empty"),
        pytest.param(SIGNATURE, "malformed", id="only hex"),
        pytest.param(f"t=1772550280;v0={SIGNATURE}", "malformed", id="semicolon"),
        pytest.param("t=1772550280", "malformed", id="no signature"),
        pytest.param(f"v0={SIGNATURE}", "malformed", id="no time"),
        pytest.param(f"t=soon,v0={SIGNATURE}", "malformed", id="time no number"),
        pytest.param(f"t=-1772550280,v0={SIGNATURE}", "malformed", id="negative time"),
        pytest.param(f"t=١٧٧٢٥٥٠٢٨٠,v0={SIGNATURE}", "malformed", id="time in other digits"),
        pytest.param(f"t={'9' * 5000},v0={SIGNATURE}", "malformed", id="time of 5000 digits"),
        pytest.param(f"t=1772550280,t=1772550281,v0={SIGNATURE}", "malformed", id="two times"),
        pytest.param(f"t=1772550281,v0={SIGNATURE}", "mismatch", id="another time"),
        pytest.param(f"t=1772550280,v0={SIGNATURE[:-1]}", "mismatch", id="cut"),
        pytest.param(f"t=1772550280,v0={SIGNATURE.upper()}", "mismatch", id="upper case"),
        pytest.param("t=1772550280,v0=", "mismatch", id="empty signature"),
        pytest.param("t=1772550280,v0=é…🙂\udc80", "mismatch", id="not ASCII"),
    ],
)
def test_an_invalid_signature_is_refused(header, reason):
    with pytest.raises(SignatureError) as caught:
        check(header)

    assert caught.value.reason == reason


@pytest.mark.parametrize("body", [b'{"type":"y"}', BODY + b" ", b""], ids=["changed", "longer", "empty"])
def test_another_body_is_refused(body):
    with pytest.raises(SignatureError, match="mismatch"):
        check(GOOD, body)


def test_any_of_the_secrets_is_accepted_and_no_other():
    check(GOOD, secrets=("wsec_new", SECRET))

    with pytest.raises(SignatureError, match="mismatch"):
        check(GOOD, secrets=("wsec_new", "wsec_newer"))


@pytest.mark.parametrize(("late", "reason"), [(3600, None), (3601, "expired"), (-300, None), (-301, "future")], ids=str)
def test_a_signature_is_valid_for_60_minutes_and_5_minutes_ahead(late, reason):
    now = NOW + timedelta(seconds=late)
    if reason is None:
        check(GOOD, now=now)
        return

    with pytest.raises(SignatureError, match=reason):
        check(GOOD, now=now)


def test_a_signature_that_we_make_is_accepted():
    check(f"t=1772550280,v0={sign(BODY, '1772550280', SECRET)}")
