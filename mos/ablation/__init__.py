"""Variants of a model, trained alike on the same samples, and how sure their differences are (paper, section 4.1)."""
