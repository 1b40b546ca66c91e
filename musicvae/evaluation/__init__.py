"""How good is a model? Its figures, beside those of the data and of baselines."""
