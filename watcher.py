"""`python watcher.py`, the documented name of `bit-transformer watch`."""

import sys

from bit_transformer.cli.main import main

if __name__ == "__main__":
    sys.argv.insert(1, "watch")
    sys.exit(main())
