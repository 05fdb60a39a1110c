"""The datasets of the tests of training, which plans are made for."""

from tests.training.conftest import colors, shapes

__all__ = ["colors", "shapes"]
