"""From paths to rows: resumable, sharded, in constant memory, on one machine or on a cluster."""
