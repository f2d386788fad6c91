"""`python -m bit_transformer` is the command line."""

import signal
import sys

if __name__ == "__main__":
    # Until the command line sees to it, Ctrl-C ends the process without a word.
    before = signal.getsignal(signal.SIGINT)
    if before is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    from bit_transformer.cli.main import main

    signal.signal(signal.SIGINT, before)
    sys.exit(main())
