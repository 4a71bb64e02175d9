"""The platform: sweeps on Ray, searched by Optuna, tracked in MLflow; the command line."""
