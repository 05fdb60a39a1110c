"""Readers of each kind of source: one file per format."""
