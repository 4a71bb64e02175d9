"""Reports: what they say, their figures, their pages."""
