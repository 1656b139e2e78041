"""Reconciler: what webhooks could not deliver."""
