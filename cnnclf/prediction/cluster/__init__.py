"""The same prediction on many machines: chunks of paths go to workers of a Ray cluster."""
