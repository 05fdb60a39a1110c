"""Explanations of a trained network on images: what its layers compute, and why it decides so."""
