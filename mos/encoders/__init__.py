"""Frozen models: captions and images in, hidden states of every layer and latents out."""
