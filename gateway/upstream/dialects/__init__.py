"""Turns the wire formats of providers into entries. `openai` has the decoder; `relay` and `assembled` extend it."""
