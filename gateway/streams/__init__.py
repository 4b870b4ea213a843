"""Answers while they live: the registry that holds them, the generation of each, and its viewers."""
