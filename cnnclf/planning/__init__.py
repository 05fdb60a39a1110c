"""What train and finetune will do, and why; light, without TensorFlow."""
