"""`ops rotate-secret`: replace the key that signs webhooks, without refusing one that the old key signed."""

import secrets
import sys
import time
from datetime import datetime, timedelta, timezone
from math import ceil
from typing import Annotated, Any

import typer

from scripts.aws_session import OpsError
from scripts.operations.secret import HOUR, Use, WebhookSecret, drop_previous, put_key, read_secret, read_use
from scripts.operations.view import WITH_YES, View
from shared.times import utc

LONGEST = 4096  # characters of a key
SHORTEST = 16  # those of ElevenLabs are longer
PREFIX = "wsec_"


def rotate_secret(
    context: typer.Context,
    generate: Annotated[
        bool,
        typer.Option("--generate", help="Make a random key and show it. For your own senders, not for ElevenLabs."),
    ] = False,
    status: Annotated[bool, typer.Option("--status", help="Show how many webhooks each key signed.")] = False,
    finish: Annotated[bool, typer.Option("--finish", help="Stop accepting the previous key.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Do it even if webhooks may be refused after it.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do it. Without --yes, only show what would be done.")] = False,
) -> int:
    """Replace the key that signs webhooks. No webhook is refused during the change.

    The command asks for the new key, or reads it from stdin. It stores the new key and keeps the current one. It waits
    until every ingest has read the new key. Then it says when to switch ElevenLabs. A key that does not look like a key
    of ElevenLabs needs --force.

    If the command is interrupted, run it again with the same key: it continues to wait.

    --status counts the webhooks that each key signed. It counts those of `ops send` and `ops canary` separately,
    because the stack signs them itself. Exit code 1 while the previous key may be needed.

    Example: ops rotate-secret --yes, then ops rotate-secret --status, then ops rotate-secret --finish --yes
    """
    view: View = context.obj
    if generate + status + finish > 1:
        raise OpsError("Use only one of --generate, --status and --finish. Each is a separate step.")
    given = "" if generate or status or finish else read_key(view)  # first, because typing it may take a while
    with view.progress.status("Reading the secret ..."):
        secret = read_secret(view.stack)
        use = read_use(view.stack, secret)
    if status:
        return show_status(view, use)
    if finish:
        return end_overlap(view, use, force=force, yes=yes)
    key = make_key(view, use, force=force) if generate else given
    return rotate(view, use, key, shown=generate, force=force, yes=yes)


def rotate(view: View, use: Use, key: str, *, shown: bool, force: bool, yes: bool) -> int:
    """Put the key and wait, or only wait if an interrupted run has put it. `shown`: show the key at the end."""
    secret, now = use.secret, datetime.now(timezone.utc)
    is_put = key == secret.current and secret.accepts_previous(now)  # by an interrupted run
    if not is_put:
        check_key(key, secret)
        check_look(key, force=force)
        check_overlap(view, use, key, now, force=force)
    if not yes:
        return preview(
            view,
            use,
            "wait only: the key is stored already" if is_put else "store the new key, keep the current one, and wait",
        )
    if not is_put:
        put_key(view, secret, key)
        secret = read_secret(view.stack)
    wait(view, secret.known_at - now if is_put else secret.settling, "Do not switch ElevenLabs yet")
    view.show(
        facts(secret, datetime.now(timezone.utc)) | ({"key": key} if shown else {}),
        "The new key is known everywhere",
        f"Switch ElevenLabs to it now, by {utc(secret.overlap_ends)} at the latest. If ElevenLabs signs with it "
        "already, there is nothing to switch. Then: ops rotate-secret --status",
    )
    return 0


def make_key(view: View, use: Use, *, force: bool) -> str:
    """A random key. If nothing was signed with the key of a rotation that is under way, that key: it may be unseen."""
    if use.secret.accepts_previous(datetime.now(timezone.utc)) and not use.with_current and not force:
        view.progress.print(
            "The key of the last rotation is not used yet, so it is shown again. To make another one, add --force."
        )
        return use.secret.current
    return f"wsec_{secrets.token_urlsafe(32)}"


def read_key(view: View) -> str:
    """The new key. The stack is looked for first, so that nobody types a key for a stack that does not exist."""
    _ = view.stack
    return ask()


def ask() -> str:
    """From the terminal without echo, or from stdin. An argument would stay in the shell's history."""
    if sys.stdin.isatty():
        try:
            return str(typer.prompt("The new signing secret", hide_input=True, err=True))
        except typer.Abort:  # what typer makes of Ctrl-C here, and of Ctrl-D
            raise KeyboardInterrupt from None
    return typer.get_binary_stream("stdin").read(LONGEST + 2).decode(errors="replace").removesuffix("\n")


def check_key(key: str, secret: WebhookSecret) -> None:
    """Raises OpsError; its text holds nothing of the key."""
    if not key:
        raise OpsError("No key was given.")
    if key != key.strip():
        raise OpsError("There is a space before or after the key. Remove it.")
    if not (key.isascii() and key.isprintable() and len(key) <= LONGEST):
        raise OpsError(f"The key must be one line of printable ASCII characters, {LONGEST} at most.")
    if key == secret.current:
        raise OpsError("This is the current key already. There is nothing to change.")


def check_look(key: str, *, force: bool) -> None:
    """Raises OpsError for a key that is probably not the one that ElevenLabs shows."""
    fault = ""
    if not key.startswith(PREFIX):
        fault = f"The key does not begin with {PREFIX}, as the keys of ElevenLabs do."
    elif len(key) < SHORTEST:
        fault = f"The key has only {len(key)} characters. Perhaps you did not copy all of it."
    if fault and not force:
        raise OpsError(f"{fault} To use it nevertheless, add --force.")


def check_overlap(view: View, use: Use, key: str, now: datetime, *, force: bool) -> None:
    """Raises OpsError if webhooks would be refused: those of a sender that still uses the previous key.

    Going back to the previous key is always safe.
    """
    secret, need = use.secret, use.need_for_previous(now)
    if force:
        return
    if secret.overlap <= secret.settling:
        raise OpsError(
            f"The previous key is accepted for {secret.overlap.total_seconds():.0f} s only, and the wait takes longer. "
            "Set a larger SecretOverlapSeconds in template.yaml and deploy it. With --force, webhooks may be refused."
        )
    if need and key != secret.previous:
        raise OpsError(
            f"An earlier rotation is not over: {need}. If you change the key again, webhooks that the previous key "
            "signs are refused. Switch ElevenLabs first. If ElevenLabs signs with neither key, add --force. To see "
            "how many webhooks each key signed: "
            f"{view.command('rotate-secret --status')}"
        )


def show_status(view: View, use: Use) -> int:
    secret, now = use.secret, datetime.now(timezone.utc)
    need, last = use.need_for_previous(now), use.last_with_previous
    found = facts(secret, now)
    if secret.accepts_previous(now):
        found |= {
            "signed_with_previous_in_the_last_hour": use.with_previous_since(now - HOUR),
            "signed_with_previous_since_the_change": use.with_previous,
            "last_signed_with_previous": utc(last) if last else None,
            "signed_with_current": use.with_current,
            "test_webhooks_not_counted": use.tests,
        }
    view.show(found, "The webhook's signing secret", advise(secret, need, now))
    return 1 if need else 0


def advise(secret: WebhookSecret, need: str, now: datetime) -> str:
    if not secret.accepts_previous(now):
        return ""
    if now < secret.known_at:
        return f"Wait until {utc(secret.known_at)}, then switch ElevenLabs to the new key"
    if need:
        return f"Switch ElevenLabs by {utc(secret.overlap_ends)}: {need}"
    return f"The overlap ends at {utc(secret.overlap_ends)}. To end it now: ops rotate-secret --finish --yes"


def facts(secret: WebhookSecret, now: datetime) -> dict[str, Any]:
    until = utc(secret.overlap_ends) if secret.accepts_previous(now) else None
    return {"changed_at": utc(secret.changed_at), "previous_accepted_until": until}


def end_overlap(view: View, use: Use, *, force: bool, yes: bool) -> int:
    """Stop accepting the previous key, and wait until warm ingests have forgotten it."""
    secret, now = use.secret, datetime.now(timezone.utc)
    if secret.accepts_previous(now):
        need = use.need_for_previous(now)
        if need and not force:
            raise OpsError(
                f"The overlap cannot end: {need}. With --force, webhooks that the previous key signs are refused."
            )
        if not yes:
            return preview(view, use, "stop accepting the previous key, and wait")
        drop_previous(view.stack, secret)
        secret = read_secret(view.stack)
        wait(view, secret.settling, "Some ingests still accept the previous key")
    elif yes and not secret.previous:  # an interrupted run may just have ended it
        wait(view, secret.touched_at + secret.settling - now, "Some ingests still accept the previous key")
    view.show(facts(secret, datetime.now(timezone.utc)), "Only the current key is accepted")
    return 0


def preview(view: View, use: Use, what: str) -> int:
    seconds = ceil(use.secret.settling.total_seconds())
    found = facts(use.secret, datetime.now(timezone.utc)) | {"would": what, "wait_seconds": seconds}
    view.show(found, "What would be done", WITH_YES)
    return 0


def wait(view: View, rest: timedelta, until_then: str) -> None:
    """Wait until every ingest has read the secret again; `until_then` is a sentence about the wait."""
    steps = ceil(rest.total_seconds())
    if steps > 0:
        view.progress.print(f"{until_then}: for {steps} s, an ingest may still use the old secret.")
    with view.bar() as bar:
        for _ in bar.track(range(steps), description="Waiting"):
            time.sleep(rest.total_seconds() / steps)
