"""Training a codec and measuring it: the loop, evaluation, final figures in bytes."""
