"""The pocket on real screenshots of web widgets: routing by stratum, and clicks in the box.

The screenshots lie beside the repository; where they are absent this benchmark says so and ends.
"""

import sys
import time

from common import SCREENS, report

from pointsman.console import quiet_libraries
from pointsman.data.dataset import read_samples_of
from pointsman.engine import Engine
from pointsman.evaluate import evaluate


def main() -> None:
    if not SCREENS.is_file():
        sys.exit(f"{SCREENS} is not there: nothing to measure")
    quiet_libraries()
    start = time.perf_counter()
    with Engine.pocket() as engine:
        loaded = time.perf_counter() - start
        samples = read_samples_of(SCREENS, engine.router.labels)
        result = evaluate(engine, samples, by=["stratum", "adapter"]).to_json()
    report("screens", {"seconds_to_load": round(loaded, 2)} | result)


if __name__ == "__main__":
    main()
