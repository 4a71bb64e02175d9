"""The codec as a network: autoencoder, quantizer, importance map, context model, loss."""
