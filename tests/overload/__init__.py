"""More requests than the gateway has room for: what those get, and what the running answers notice of them."""
