"""The loss of a trained model on each sample, as a column that filters may name."""
