"""Fuzzing of the HTTP edge and of what reads payloads and messages."""
