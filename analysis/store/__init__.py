"""Reading sweeps: their directories, and their runs in MLflow."""
