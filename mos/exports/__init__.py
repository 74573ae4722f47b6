"""Samples on their way out: a view of the samples table -> WebDataset shards, or Parquet for Hugging Face datasets."""
