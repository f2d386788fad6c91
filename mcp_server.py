"""`python mcp_server.py`, the documented name of `bit-transformer serve`."""

import sys

from bit_transformer.cli.main import main

if __name__ == "__main__":
    sys.argv.insert(1, "serve")
    sys.exit(main())
