"""The model: router, state mixing, generation tower (paper section 3). Knows nothing of Ray, FSDP or tables."""
