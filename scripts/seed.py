"""Sends the demo's calls to a stack: what `make local` has to look at."""

import time
from collections.abc import Iterator, Mapping

import httpx

from scripts.demo.calls import sample_calls
from scripts.webhooks import send

LARGEST_BODY = 6 * 1024 * 1024  # that Lambda takes: the recording of one call is larger, and stays pending


def seed(outputs: Mapping[str, str]) -> bool:
    """Whether the stack took all of them. To send them again changes nothing."""
    bodies = demo_bodies(int(time.time()))
    try:
        return all(send(outputs["PostCallUrl"], outputs["WebhookSecret"], each).status_code == 200 for each in bodies)
    except httpx.HTTPError:
        return False


def demo_bodies(now: int) -> Iterator[bytes]:
    """The webhooks of all five calls, with the recordings that fit into one."""
    for call in sample_calls(now):
        yield call.transcript_body()
        if call.recording and len(audio := call.audio_body()) <= LARGEST_BODY:
            yield audio
