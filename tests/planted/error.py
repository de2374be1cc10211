"""An error that is planted into the sources; see ``tests/planted_errors.py``."""

import dataclasses


@dataclasses.dataclass(frozen=True)
class Planted:
    """An error: ``right`` becomes ``wrong`` in ``file``, and ``test`` has to fail."""

    what: str
    file: str
    right: str
    wrong: str
    test: str
