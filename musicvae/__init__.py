"""MusicVAE for 4-bar drum grooves (Roberts et al. 2018, arXiv 1803.05428). Public names load on first use."""
