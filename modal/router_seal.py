"""Seal the adapters' files into a router, on Modal, so that others in their place are refused.

    modal run modal/router_seal.py::run --router /data/routers/routing

The project file is /data/pointsman.toml, unless --config is given. `--again calendar claim-window`
names adapters that were retrained since they were sealed.
"""

from pathlib import Path

from common import ON_CPU, keep, names, takes_lists

import modal

app = modal.App("pointsman-seal")


@app.function(**ON_CPU)
def seal(router: str, config: str, again: str) -> str:
    from pointsman.adapters.seal import seal_adapters
    from pointsman.project import load_project

    done = seal_adapters(Path(router), load_project(Path(config)), names(again))
    keep()
    return "\n".join(f"{name}: {what}" for name, what in done.items())


@app.local_entrypoint()
@takes_lists
def run(router: str, config: str = "/data/pointsman.toml", again: str = "") -> None:
    print(seal.remote(router, config, again))
