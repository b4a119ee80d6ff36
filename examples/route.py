"""Routes one request and answers it with the selected adapter.

python examples/route.py screen.png "Click December 3 in the calendar"
"""

import sys

from pointsman import Engine


def main(image: str, text: str) -> None:
    with Engine.pocket() as engine:  # yours: Engine.from_config("pointsman.toml")
        print(f"plan: {engine.plan.name}, {engine.plan.why}")

        route = engine.route(image, text)  # the decision alone
        for adapter, probability in route.probabilities.items():
            print(f"{probability:6.1%}  {adapter}")

        answer = engine.generate(image, text)  # one forward routes and answers
        print(f"{answer.adapter or 'base'} clicks at {answer.point}: {answer.text}")


if __name__ == "__main__":
    main(*sys.argv[1:3])
