"""Where do training windows come from? How they are stored, found and put in order."""
