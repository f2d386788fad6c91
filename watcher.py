"""`python watcher.py` is `bit-transformer watch`, under its documented name."""

import sys

from bit_transformer.cli.main import main

if __name__ == "__main__":
    sys.argv.insert(1, "watch")
    sys.exit(main())
