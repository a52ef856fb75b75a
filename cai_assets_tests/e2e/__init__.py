"""What a user does: the command line, the UI in a browser, backfills."""
