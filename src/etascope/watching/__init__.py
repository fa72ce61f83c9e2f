"""A run looked after: what torch and the watcher have to do with each other."""
