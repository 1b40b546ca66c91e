"""Behind `jobs.show` and `jobs.doctor`: MIDI files, shards, machines, clusters."""
