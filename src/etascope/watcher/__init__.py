"""Signals -> checks -> decisions: pure, on numbers alone, and the same again from a log."""
