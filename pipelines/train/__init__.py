"""A training stage: the driver, what it tells its workers, the workers, and the producers of streamed states."""
