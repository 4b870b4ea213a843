"""Several processes on one machine, of which each can reach the streams that another one holds."""
