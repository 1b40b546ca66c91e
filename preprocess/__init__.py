"""A folder of MIDI -> shards of windows, in parallel on Ray. Loads neither torch nor Ray by itself."""
