"""Connections and their rules: source, MongoDB, Dify, object store. Plain classes that know no Dagster."""
