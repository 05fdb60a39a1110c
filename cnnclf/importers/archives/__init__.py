"""Archives: unpacked within limits, then read in the format of their content."""
