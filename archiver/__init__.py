"""Archiver: staged body to archive, record and announcement."""
