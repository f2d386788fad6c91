"""`python mcp_server.py` is `bit-transformer serve`, under its documented name."""

import sys

from bit_transformer.cli.main import main

if __name__ == "__main__":
    sys.argv.insert(1, "serve")
    sys.exit(main())
