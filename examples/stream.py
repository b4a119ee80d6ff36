"""Prints an answer while it is generated; other requests run in the same batch.

python examples/stream.py screen.png "Click December 3" "Click the Submit button" …
"""

import sys

from pointsman import Engine, Sampling, make_prompt


def main(image: str, *texts: str) -> None:
    sampling = Sampling(temperature=0.3, top_p=0.9, seed=0)  # the default is greedy
    with Engine.pocket() as engine:
        streams = [
            engine.submit(make_prompt(image, text), session="user-7", sampling=sampling)
            for text in texts
        ]
        for text, stream in zip(texts, streams, strict=True):
            route = stream.route()  # known before the first token
            print(
                f"{text}\n  {route.adapter or 'base'}, held by the session: {route.held}\n  ",
                end="",
            )
            for piece in stream:
                print(piece, end="", flush=True)
            print()


if __name__ == "__main__":
    main(*sys.argv[1:])
