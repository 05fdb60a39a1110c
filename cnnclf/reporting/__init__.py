"""Reports: everything about a run on one page."""
