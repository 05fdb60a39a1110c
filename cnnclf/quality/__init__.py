"""What is wrong with the images of a dataset, with evidence, before it costs a training."""
