"""Playground: the page at ``/`` and the pocket's sample screens."""

from importlib.resources import files
from typing import Any

from fastapi import FastAPI
from fastapi.responses import Response

from pointsman.errors import LabelError

# No foreign script, style or address: whatever a model writes is shown as text.
_POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self' data: blob:",
        "connect-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
    )
)
_HEADERS = {
    "content-security-policy": _POLICY,
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cache-control": "no-cache",
}
_FILES = {
    "/": ("index.html", "text/html; charset=utf-8"),
    "/page.css": ("page.css", "text/css; charset=utf-8"),
    "/page.js": ("page.js", "text/javascript; charset=utf-8"),
}
Sample = dict[str, Any]


def attach_page(app: FastAPI, samples: dict[str, tuple[Sample, bytes]]) -> None:
    """Serves the page.

    Args:
        samples: by name, what the page offers to try (``text``, ``adapter``), and the PNG.
    """
    folder = files("pointsman.server") / "page"
    for path, (name, kind) in _FILES.items():
        content = (folder / name).read_bytes()
        app.add_api_route(path, _file(content, kind), methods=["GET"], include_in_schema=False)

    async def listed() -> Any:
        rows = [{**row, "image": f"/samples/{name}.png"} for name, (row, _) in samples.items()]
        return {"samples": rows}

    async def picture(name: str) -> Response:
        if name not in samples:
            raise LabelError("there is no sample of this name")
        return Response(samples[name][1], media_type="image/png")

    app.add_api_route("/samples", listed, methods=["GET"], include_in_schema=False)
    app.add_api_route("/samples/{name}.png", picture, methods=["GET"], include_in_schema=False)


def _file(content: bytes, kind: str) -> Any:
    async def shown() -> Response:
        return Response(content, media_type=kind, headers=_HEADERS)

    return shown
