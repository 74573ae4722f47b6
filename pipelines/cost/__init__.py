"""What a run costs: bytes, hours and money of each source of states, measured speeds, how long the run takes here."""
