"""Ray Data operators, one per file: columns in, columns out, safe to run again."""
