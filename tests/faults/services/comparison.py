"""Comparisons of the in-memory services with moto: the same steps on both, and equal answers."""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from shared.errors import LeaseError, StorageError

Step = Callable[[Any], Any]  # does the same on one side or the other


def answer_of(step: Callable[[], Any]) -> Any:
    """What a step returns, or the error that it raises, in a form in which those of both sides can be equal."""
    try:
        found = step()
        return list(found) if isinstance(found, Iterator) else found
    except ClientError as error:
        return "error", error.response["Error"]["Code"]
    except (BotoCoreError, LeaseError, StorageError) as error:
        return "error", str(error)


def assert_same(
    ours: Any, theirs: Any, steps: list[tuple[str, Step]], then: Callable[[], None] = lambda: None
) -> None:  # fmt: skip
    """Do all steps on both sides, and `then` after each. A failure names the step and those before it."""
    for number, (text, step) in enumerate(steps):
        found, expected = (answer_of(partial(step, side)) for side in (ours, theirs))
        before = "\n".join(text for text, _ in steps[max(0, number - 12) : number])
        assert found == expected, f"step {number}: {text}\nours: {found}\nmoto: {expected}\nbefore:\n{before}"
        then()
