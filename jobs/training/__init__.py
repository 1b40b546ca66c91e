"""Behind `jobs.train` and `jobs.train_on_ray`: one rank, its launcher, and what they tell each other."""
