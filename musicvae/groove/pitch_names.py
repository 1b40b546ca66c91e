"""What the General MIDI standard calls its drum pitches."""

FIRST_PITCH = 27
NAMES = (
    *("High Q", "Slap", "Scratch Push", "Scratch Pull", "Sticks", "Square Click", "Metronome Click", "Metronome Bell"),
    *("Acoustic Bass Drum", "Bass Drum 1", "Side Stick", "Acoustic Snare", "Hand Clap", "Electric Snare"),
    *("Low Floor Tom", "Closed Hi-Hat", "High Floor Tom", "Pedal Hi-Hat", "Low Tom", "Open Hi-Hat", "Low-Mid Tom"),
    *("Hi-Mid Tom", "Crash Cymbal 1", "High Tom", "Ride Cymbal 1", "Chinese Cymbal", "Ride Bell", "Tambourine"),
    *("Splash Cymbal", "Cowbell", "Crash Cymbal 2", "Vibraslap", "Ride Cymbal 2", "Hi Bongo", "Low Bongo"),
    *("Mute Hi Conga", "Open Hi Conga", "Low Conga", "High Timbale", "Low Timbale", "High Agogo", "Low Agogo"),
    *("Cabasa", "Maracas", "Short Whistle", "Long Whistle", "Short Guiro", "Long Guiro", "Claves", "Hi Wood Block"),
    *("Low Wood Block", "Mute Cuica", "Open Cuica", "Mute Triangle", "Open Triangle", "Shaker", "Jingle Bell"),
    *("Bell Tree", "Castanets", "Mute Surdo", "Open Surdo"),
)
"""Of pitches 27 to 87: General MIDI 2, which names 35 to 81 as General MIDI 1 does."""


def pitch_name(pitch: int) -> str:
    """The name of a drum pitch, empty where the standard has none."""
    return NAMES[pitch - FIRST_PITCH] if 0 <= pitch - FIRST_PITCH < len(NAMES) else ""
