"""Fused operations of the model, each beside the reference it must agree with. Know nothing of the model."""
