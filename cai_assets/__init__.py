"""Conversation analytics as Dagster assets; `definitions.py` is the entry point, `docs/` the map."""
