"""Pure logic, without network."""
