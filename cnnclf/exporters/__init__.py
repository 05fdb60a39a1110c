"""Trained models in other formats, each compared with the model it was made from."""
