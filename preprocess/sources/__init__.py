"""Where do MIDI files come from? Folders, archives, tables, data sets."""
