"""Transcriber: recordings to words, by Amazon Transcribe."""
