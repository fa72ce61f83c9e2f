"""Short looks at a model on torch: sharpness, noise scale, how far a step goes."""
