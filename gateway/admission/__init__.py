"""From a request to an admitted one: who asks, for what, within which limits."""
