"""The `quorate` command line."""
