"""Behind `jobs.evaluate`: what is evaluated, and its tables."""
