"""Where jobs run: sessions, submitted jobs, resources of a cluster."""
