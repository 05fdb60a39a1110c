"""Inference engines: a row of a table and a module for each."""
