"""How hidden states and latents are named and laid out on disk."""
