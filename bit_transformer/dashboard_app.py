"""`python -m bit_transformer.dashboard_app`, the documented name of `bit-transformer dashboard`."""

import sys

from bit_transformer.cli.main import main

if __name__ == "__main__":
    sys.argv.insert(1, "dashboard")
    sys.exit(main())
