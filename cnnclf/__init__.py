"""cnnclf: train, evaluate and export image classifiers."""

__version__ = "0.1.0"
