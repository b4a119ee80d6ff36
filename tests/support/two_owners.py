"""Pointsman with its single owner broken: two threads run the model.

python -m support.two_owners serve
"""

import threading
from typing import Any

from pointsman.cli.app import main
from pointsman.engine.worker import Worker


class TwoOwners(Worker):
    """A worker whose backend is also run by a second thread, without waiting for the first."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        threading.Thread(target=self._work, daemon=True).start()


if __name__ == "__main__":
    from pointsman.engine import engine

    engine.Worker = TwoOwners  # type: ignore[misc]
    main()
