"""The only writer to MLflow: spool, batches, sender, flusher, quarantine; store, server."""

import os

# They count when MLflow is imported, which several modules here do.
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
# A dead server must cost seconds: the flusher itself comes back to what failed.
os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "20")
os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "ERROR")
os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
