"""One phase of training: steps, epochs, optimizers, checkpoints, and what resuming needs."""
