"""Fixtures of this folder."""

from tests.rig.ways import both_ways as both_ways
