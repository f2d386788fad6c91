"""`python -m bit_transformer` is the command line."""

import sys

from bit_transformer.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
