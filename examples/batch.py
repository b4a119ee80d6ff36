"""Answers several requests in one batch, each with its own adapter.

python examples/batch.py screen.png "Click December 3" "Click the Submit button" …
"""

import sys

from pointsman import Engine, make_prompt


def main(image: str, *texts: str) -> None:
    prompts = [make_prompt(image, text) for text in texts]
    with Engine.pocket() as engine:
        answers = engine.generate_batch(prompts, max_new_tokens=64)  # the router decides
        for text, answer in zip(texts, answers, strict=True):
            print(f"{answer.adapter or 'base'}: {text} -> {answer.point}")

        # Naming the adapter skips the router.
        named = engine.submit(prompts[0], adapter=engine.adapters[0], max_new_tokens=64).result()
        print(f"named {named.adapter}: {texts[0]} -> {named.point}")


if __name__ == "__main__":
    main(*sys.argv[1:])
