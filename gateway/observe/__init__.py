"""What an operator sees: records of requests and streams, the log that they are written to, and sums over it."""
