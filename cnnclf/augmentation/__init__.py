"""Random changes of training images on uint8 pixels, the same on every backend."""
