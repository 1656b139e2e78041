"""Real processes under load: the functions and the embedded AWS are killed, and webhooks come without a pause."""
