"""rdsweep: the command line. Heavy imports sit inside the commands."""
