"""Tests: `unit` in seconds, `integration` over real connections, `e2e` as a user does it."""
