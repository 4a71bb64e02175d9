"""Proposing trials: the Optuna study, its samplers, Ray Tune's door to it."""
