"""Work in a thread, for the duration of a `with` block."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from threading import Event


@contextmanager
def beside(work: Callable[[Event], None], seconds: float) -> Iterator[None]:
    """Do this work beside the block. The event tells it that the block is over; it then has so many seconds to end.

    Raises what the work raises, and TimeoutError if it does not end.
    """
    over = Event()
    with ThreadPoolExecutor(1) as pool:
        working = pool.submit(work, over)
        try:
            yield
        finally:
            over.set()
            working.result(timeout=seconds)
