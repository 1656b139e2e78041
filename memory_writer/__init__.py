"""Memory writer: announcement to Mem0, once."""
