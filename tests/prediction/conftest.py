"""The tiny model and its images, for predictions as for the door."""

from tests.inference.conftest import bundle, calibrated, classifier, draw

__all__ = ["bundle", "calibrated", "classifier", "draw"]
