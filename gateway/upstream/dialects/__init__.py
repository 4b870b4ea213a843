"""How a provider's wire shape becomes entries: one module per shape, each with a `Decoder`."""
