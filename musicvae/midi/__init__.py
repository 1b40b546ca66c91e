"""How does a MIDI file become a groove, and a groove a MIDI file?"""
