"""Ingest: verify, stage, hand on."""
