"""How is a trained model used? Loaded, exported, described."""
