"""Images: where they come from, how they are cut into splits, how they become batches."""
