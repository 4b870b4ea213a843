"""HTTP handlers: a module for each surface, and the middleware of all of them."""
