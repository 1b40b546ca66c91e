"""What happens in a training run? From its settings to its last checkpoint, and its folder."""
