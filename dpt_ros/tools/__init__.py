"""The `dpt` command."""
