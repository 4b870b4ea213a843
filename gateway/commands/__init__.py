"""Parts of the commands in `gateway.cli`: arguments, configuration, checks, sums, messages."""
