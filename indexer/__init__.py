"""Indexer: announcements to rows under text/, which Athena searches."""
