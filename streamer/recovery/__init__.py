"""Tracing recipients through the topics, and rewriting records: replay, retry and purge."""
