"""Shows runs in other programs: TensorBoard and MLflow."""
