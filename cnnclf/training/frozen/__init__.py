"""Frozen layers: computed once per image, kept on disk, and trained on."""
