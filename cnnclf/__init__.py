"""cnnclf: from a folder of images to a trained, checked and explained CNN."""

__version__ = "0.1.0"
