"""`python -m bit_transformer` runs the command line."""

import signal
import sys

if __name__ == "__main__":
    # Until the command line handles signals itself, Ctrl-C ends the process without a traceback.
    before = signal.getsignal(signal.SIGINT)
    if before is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    from bit_transformer.cli.main import main

    signal.signal(signal.SIGINT, before)
    sys.exit(main())
