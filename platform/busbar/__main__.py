"""`python -m busbar` is the command `busbar`."""

from busbar.cli import main

if __name__ == "__main__":
    main()
