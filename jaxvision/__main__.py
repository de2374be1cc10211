"""``python -m jaxvision``: the ``jaxvision`` command, see :mod:`jaxvision.commands`."""

import sys

from jaxvision.commands import main

if __name__ == "__main__":
    sys.exit(main())
