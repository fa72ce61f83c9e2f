"""`python -m etascope` is `etascope`."""

from .cli import main

if __name__ == "__main__":
    main()
