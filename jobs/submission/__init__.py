"""Behind `jobs.submit` and what follows it: status, logs, retry, cancel, clean."""
