"""Inputs that nobody thought of, for what reads bytes of strangers: see `python -m tests.fuzz --help`."""
