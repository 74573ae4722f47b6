"""How hidden states reach the trainer: from a table, from a table that is being written, or from a tower beside it."""
