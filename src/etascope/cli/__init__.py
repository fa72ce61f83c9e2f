"""The command line: one file per command. Importing it loads no torch."""

from .app import app, main

__all__ = ["app", "main"]
