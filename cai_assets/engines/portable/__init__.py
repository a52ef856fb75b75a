"""The portable part of SQL: models read into plans that every engine can run, and what is outside of it."""
