"""The provider side: the targets of models, the client that asks them, and the dialects of their answers."""
