"""What a sweep runs: the YAML, its search space, the plan of it."""
