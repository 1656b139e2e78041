"""Ingest: verify, stage, queue."""
