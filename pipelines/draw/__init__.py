"""Drawing with a finished stage: requests, the pool of actors that answer them, and what the report shows beside."""
