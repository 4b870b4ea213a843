"""Storage of the entries of streams: an interface in `base`, and a module for each kind of store."""
