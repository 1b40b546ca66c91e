"""What generating goes by where nothing else is said; no torch."""

BATCH = 256
"""Items decoded together. Part of what every item is: another value changes the last bits of the logits."""
DEFAULT_DISTANCE = 0.3
"""Of a variation: 0 is the reconstruction of its groove, 1 a groove that knows nothing of it."""
DEFAULT_BEST_OF = 4
"""Grooves that are made for each new one; that of the highest quality is kept."""
DEFAULT_AMOUNT = 0.5
"""Of a humanization: listeners liked a fifth to a half of what people play, on parts that were programmed."""
PLAYED, MEAN, PLAIN = "played", "mean", "plain"
"""How grooves are played where no style is: by the performance model; with the mean velocity and timing of the training
data; with one velocity, and every hit on the grid."""
