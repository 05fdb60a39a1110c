"""Datasets on disk: the manifest, its splits and checks, and the decoded pixels."""
