"""Real servers over real connections on loopback."""
