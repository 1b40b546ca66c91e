"""What is a groove? Its grid and its tokens, its figures, its picture and its sound."""
