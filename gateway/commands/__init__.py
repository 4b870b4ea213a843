"""What the commands of `gateway.cli` do and say: usage of a log, a check of upstreams, the words at the start."""
