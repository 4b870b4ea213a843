"""Parts of the commands in `gateway.cli`: sums over logs, checks of upstreams, the announcement, standard streams."""
