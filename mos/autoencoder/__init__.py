"""How a latent codec is trained: a small autoencoder class of diffusers over the pictures of one resolution."""
