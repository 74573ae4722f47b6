"""Mixture of States: the library. Knows torch, Lance and Arrow; never imports ray."""
