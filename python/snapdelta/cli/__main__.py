"""`python -m snapdelta.cli`: the command line."""

from snapdelta.cli import main

if __name__ == "__main__":
    main()
