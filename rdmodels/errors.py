"""Errors whose message is all that a user needs; the command line shows them as one line.

This module imports nothing, so that catching them costs nothing.
"""


class RdsweepError(Exception):
    """The base of them all: what was wrong, the value, and the way out."""


class ConfigError(RdsweepError, ValueError):
    """A configuration that breaks a rule; the message has the field, the value and the way out."""


class DatasetError(ConfigError):
    """A data set that is not there, holds nothing readable, or does not fit the configuration."""


class BitstreamError(RdsweepError, ValueError):
    """A stream that is damaged, is not ours, or belongs to another model."""


class NonFiniteLossError(RdsweepError, RuntimeError):
    """The training loss is no longer a number."""


class EvaluationError(RdsweepError, RuntimeError):
    """An evaluation whose figures cannot be data points."""


class SweepReadError(RdsweepError, ValueError):
    """A sweep that cannot be read; the message says what is wrong and where."""


class TrackingError(RdsweepError, ValueError):
    """An MLflow store that does not answer, or answers no."""
