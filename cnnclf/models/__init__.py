"""Networks: their plan on paper, and the Keras models built from it."""
