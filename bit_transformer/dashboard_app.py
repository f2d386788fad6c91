"""`python -m bit_transformer.dashboard_app` is `bit-transformer dashboard`, under its documented
name."""

import sys

from bit_transformer.cli.main import main

if __name__ == "__main__":
    sys.exit(main(["dashboard", *sys.argv[1:]]))
