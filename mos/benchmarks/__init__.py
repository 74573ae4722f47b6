"""Published benchmarks: their prompts in, the folders that their own scorers read out, and those scorers' results."""
