"""From pinned tables to batches: a view, its index, the batch plan, the random draws, each rank's share of a step."""
