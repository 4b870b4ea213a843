"""Storage of the entries of streams: an interface in `base`, and the store in `memory`.

Redis stands beside that store and is no store of its own: `streams.sharing` copies entries to it and from it.
"""
