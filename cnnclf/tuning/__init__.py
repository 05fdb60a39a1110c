"""Searches settings: a space, trials that are runs, and what promotes them."""
