"""Proof under faults: a deterministic simulator of the whole pipeline, fuzzing, and real processes that are killed."""
