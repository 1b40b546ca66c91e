"""How does a latent code become a groove?"""
