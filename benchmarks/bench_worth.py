"""Whether routing pays on the real screens.

The pocket's answers routed, with the right adapter named, with the most frequent adapter always
and with the base alone; and seconds of single requests. It takes some minutes on one core.
`--report` keeps the report that `pointsman evaluate --out` writes; where a Chromium is installed,
docs/report.png becomes a picture of its first screenful.

    python benchmarks/bench_worth.py [--report FOLDER]
"""

import argparse
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from common import ROOT, SCREENS, WITHOUT_SCREENS, report
from PIL import Image

from pointsman.cli.console import progress, quiet_libraries
from pointsman.data.dataset import read_samples_of
from pointsman.engine.engine import Engine
from pointsman.evaluation.evaluate import evaluate, save

BROWSERS = ("chromium", "chromium-headless-shell", "google-chrome")
PICTURE = ROOT / "docs" / "report.png"
SIZE = (1180, 1585)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--report", type=Path, help="where to write report.html and what is in it")
    arguments = parser.parse_args()
    if not SCREENS.is_file():
        sys.exit(f"skipped: {WITHOUT_SCREENS}")
    quiet_libraries()
    with Engine.pocket() as engine, tempfile.TemporaryDirectory() as folder:
        samples = read_samples_of(SCREENS, engine.router.labels)
        with progress("evaluating") as shown:
            found = evaluate(engine, samples, by=["stratum"], worth=True, progress=shown)
        out = arguments.report or Path(folder)
        save(found, engine.router, out)
        draw(out / "report.html")
        size = (out / "report.html").stat().st_size
    everything = found.to_json()
    tasks = {
        stratum: group["task"]
        for stratum, group in everything["by"]["stratum"].items()
        if group["task"]
    }
    result = {"worth": everything["worth"], "task": everything["task"], "task by stratum": tasks}
    report("worth", result | {"bytes of report.html": size})


def draw(page: Path) -> None:
    """Writes the page's first screenful to docs/report.png, if there is a browser."""
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    if browser is None:
        print("no Chromium on the path: docs/report.png is left as it is", file=sys.stderr)
        return
    shot = page.with_name("report.png")
    options = ("--headless", "--no-sandbox", "--hide-scrollbars", f"--screenshot={shot}")
    window = f"--window-size={SIZE[0]},{SIZE[1]}"
    subprocess.run(
        [browser, *options, window, page.resolve().as_uri()], check=True, capture_output=True
    )
    with Image.open(shot) as image:
        image.convert("RGB").save(PICTURE, optimize=True)


if __name__ == "__main__":
    main()
