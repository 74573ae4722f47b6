"""Batches in, checkpoints out: the training step and everything it stands on. Knows torch, not Ray, not Lance."""
