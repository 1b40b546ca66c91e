"""Behind `jobs.sweep`: trials, where they are trained, what comes next. The shipped sweeps are here too."""
