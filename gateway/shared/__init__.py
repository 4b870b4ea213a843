"""What several processes share through Redis, on any machine."""
