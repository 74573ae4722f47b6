"""Shards to samples to batches: readers, checks, measurements, buckets, plans."""
