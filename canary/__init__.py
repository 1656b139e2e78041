"""Canary: a test call through the whole pipeline, deleted again."""
