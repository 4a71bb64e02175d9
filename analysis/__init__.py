"""The rate-distortion frontier of a sweep and its reports; reads MLflow, never trains."""
