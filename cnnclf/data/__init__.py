"""Images from any source to batches of pixels."""
