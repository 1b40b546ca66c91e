"""Runs a command line somewhere: on this machine, on SLURM, on Ray. Knows nothing of music or torch."""
