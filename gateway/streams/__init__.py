"""Streams in memory: the registry that holds them, the generation of each, and its viewers."""
