"""What is the network, and what is its loss? Reads and writes no files."""
