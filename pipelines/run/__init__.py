"""What every script needs: its command line, the run's config, its steps and their records."""
