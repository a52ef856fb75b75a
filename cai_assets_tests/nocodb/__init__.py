"""Trials on a real NocoDB, run by `make test-nocodb`; it is no part of the project and is installed first."""
