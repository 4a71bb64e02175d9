"""The platform: sweeps on Ray, searched by Optuna, tracked in MLflow; the command line."""

import os
from pathlib import Path

# They count when Ray is imported, which several modules do: no usage reports, no per-result CSV
# and JSON files, state every minute, and the output engine that keeps silent when told to.
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
os.environ.setdefault("TUNE_DISABLE_AUTO_CALLBACK_LOGGERS", "1")
os.environ.setdefault("TUNE_GLOBAL_CHECKPOINT_S", "60")
os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")

# `ray start` asks for a token where there is one, a connection by address does not offer it by
# itself. A cluster that asks for none takes the connection all the same.
_TOKENS = ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH")
if any(name in os.environ for name in _TOKENS) or (Path.home() / ".ray/auth_token").exists():
    os.environ.setdefault("RAY_AUTH_MODE", "token")
