"""The tiny model and its images, for predictions as for the door."""

from tests.inference.conftest import bundle, classifier, draw

__all__ = ["bundle", "classifier", "draw"]
