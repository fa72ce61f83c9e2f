"""Is it the learning rate? What the log of a run says."""
