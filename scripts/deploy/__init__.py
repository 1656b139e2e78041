"""`make deploy`: a new stack by a few questions, an update that keeps what is set."""
