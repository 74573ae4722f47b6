"""Pictures: encoded bytes to upright sRGB, its measures, the bucket it is trained in, and why an item is dropped."""
