"""`python -m quire`, for where the console script is not on PATH."""

from quire.cli import main

if __name__ == "__main__":
    main()
