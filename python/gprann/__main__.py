"""`python -m gprann` is the command `gprann`."""

import sys

from gprann.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
