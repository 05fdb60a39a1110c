"""What computes logits: one row of a table and one file for each engine."""
