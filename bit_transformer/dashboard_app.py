"""`python -m bit_transformer.dashboard_app` is `bit-transformer dashboard`, under its documented
name."""

import sys

from bit_transformer.cli.main import main

if __name__ == "__main__":
    sys.argv.insert(1, "dashboard")
    sys.exit(main())
