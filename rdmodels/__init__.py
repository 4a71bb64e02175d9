"""The codec: a convolutional autoencoder and its causal 3-D context model, in plain PyTorch."""
