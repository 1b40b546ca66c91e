"""Behind `jobs.report`: a page about one training run or several."""
