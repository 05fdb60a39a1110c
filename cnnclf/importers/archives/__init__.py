"""Archives: unpacked with bounds, then read as whatever lies in them."""
