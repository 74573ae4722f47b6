"""Lance tables: their schemas, who appends to them exactly once, how payloads are read, and what may go."""
