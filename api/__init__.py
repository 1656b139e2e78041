"""Finds calls and reads them."""
