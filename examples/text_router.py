"""Routes texts without the base model: a text router in front of any server with the adapters.

pointsman preprocess DATASET --encoder sentence-transformers/all-MiniLM-L6-v2 --out features
pointsman train features --out router
python examples/text_router.py router "Click December 3" "Submit the claim" …
"""

import sys

from pointsman import TextRouter, make_prompt


def main(folder: str, *texts: str) -> None:
    router = TextRouter.load(folder)  # checks the encoder's fingerprint and replays the probes
    routes = router.route_batch([make_prompt(None, text) for text in texts])
    for text, route in zip(texts, routes, strict=True):
        chosen = "abstained" if route.abstained else route.adapter
        print(f"{text} -> {chosen} ({route.confidence:.1%})")


if __name__ == "__main__":
    main(*sys.argv[1:])
