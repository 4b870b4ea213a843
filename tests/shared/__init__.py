"""Tests of what processes share through Redis."""
