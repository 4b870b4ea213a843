"""Where the entries of a stream are kept: a port in `base`, a module per kind of store."""
