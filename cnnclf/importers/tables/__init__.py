"""Tables of paths and labels: their text, the meaning of their columns, the files they name."""
