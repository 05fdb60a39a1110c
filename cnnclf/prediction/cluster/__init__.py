"""Prediction on many machines: workers of a Ray cluster predict chunks of paths."""
