"""Proof under faults: schedules of the functions in a simulated world, fuzzing, and real processes that are killed."""

import tests.conftest  # noqa: F401 (sets the environment that our modules read when they are imported)
