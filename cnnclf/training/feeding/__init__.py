"""What training is fed: batches, their order, and how long they were waited for."""
