"""From raw shards and folders to rows of the samples table: readers, captions, verdicts, duplicates, bookkeeping."""
