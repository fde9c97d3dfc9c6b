"""`python -m busbar_webhook` makes a signing secret, to be entered here and at the receiver."""

import sys

from busbar.sdk import new_signing_secret


def main() -> None:
    """Print a secret of 32 random bytes."""
    sys.stdout.write(new_signing_secret().reveal() + "\n")


if __name__ == "__main__":
    main()
