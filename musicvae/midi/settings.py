"""How MIDI files are written where nothing else is said; no numpy."""

TICKS_PER_QUARTER = 480
MIN_TICKS, MAX_TICKS = 24, 32767
"""Of a quarter note: below, hits of neighbouring steps could not be told apart; above, MIDI has no number for it."""
