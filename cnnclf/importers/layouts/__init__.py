"""What the folders of a source mean: which are splits, which are classes, which are neither."""
