"""Symbols to bytes and back: the integer context model, the range coder, the container."""
