"""What a trial and a sweep leave behind, for whoever reads it."""
