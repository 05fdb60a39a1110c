"""How each kind of source is read: one file per format."""
