"""Behind `jobs.sample`: from its options to a folder of grooves."""
