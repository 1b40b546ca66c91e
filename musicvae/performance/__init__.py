"""The performance model: velocity and timing of given hits."""
