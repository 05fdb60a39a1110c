"""Trained models: the bundles they are stored in, and the engines that compute them."""
