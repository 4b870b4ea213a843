"""The exception with which every command stops on a fault of its arguments or its files."""


class CommandError(Exception):
    """Ends the command with this message and exit status 2."""
