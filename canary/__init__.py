"""Canary: a call of our own through all of it, and away again."""
