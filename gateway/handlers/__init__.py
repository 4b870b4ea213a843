"""HTTP in, HTTP out: one module per surface, and the middleware that all of them share."""
