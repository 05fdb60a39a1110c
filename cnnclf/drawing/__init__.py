"""Drawing for all figures that are not charts: grids of images, color maps, and text."""
