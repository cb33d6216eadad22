"""The only code that talks to an API server: client, waits, exec, ownership, cleanup, access."""
