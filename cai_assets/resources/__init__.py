"""Connections and their rules: source, MongoDB, Dify, object store. Plain classes; Dagster is not known here."""
