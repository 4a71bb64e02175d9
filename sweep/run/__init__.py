"""Running trials: the cluster, the launch, one trial, the progress."""
