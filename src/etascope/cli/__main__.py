"""`python -m etascope.cli` is `etascope`."""

from .app import main

if __name__ == "__main__":
    main()
