"""Rectified flow: path, timestep density, loss, solver, guidance (paper section 3.1, eq. 1)."""
