"""The faults of upstreams and networks, end to end: one table of scenarios for the tests and for people.

python -m tests.faults    prints what a client sees of each fault, with one target and with two
"""
