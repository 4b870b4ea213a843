"""Records of requests and streams, the log that holds them, and sums over the log."""
