"""HTML pages that are complete in one file: frame, style and charts."""
