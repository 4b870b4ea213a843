"""The provider's side: which target a model has, the client that asks it, and what its answers mean."""
