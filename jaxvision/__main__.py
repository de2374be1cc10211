"""``python -m jaxvision``: the training program, :mod:`jaxvision.main`."""

import sys

from jaxvision.main import main

if __name__ == "__main__":
    sys.exit(main())
