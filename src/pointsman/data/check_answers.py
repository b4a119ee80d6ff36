"""The part of the dataset check that reads prompts and answers: leaks and coordinates."""

from typing import Any

from pointsman.data import coordinates, leaks
from pointsman.data.check_run import Item, Run, class_of
from pointsman.labels import LabelMap


def check_answers(run: Run, items: list[Item], labels: LabelMap) -> None:
    """No prompt holds its answer; one that names its adapter is easier than real ones may be.

    No answer is empty, and coordinates are written as the base writes them.
    """
    for kind, test, what in (
        ("answer-leak", leaks.holds_answer, "hold the answer in the prompt"),
        ("answer-leak", leaks.holds_coordinates, "hold the answer's coordinates in the prompt"),
        ("adapter-name", leaks.names_adapter, "name the adapter in the prompt"),
        ("empty-answer", leaks.answers_nothing, "have an empty answer, which teaches silence"),
    ):
        for name in (*labels, "out_of_scope"):
            mine = [item for item in items if class_of(item.sample) == name]
            guilty = [item for item in mine if test(item.sample)]
            if guilty:
                count = f"{len(guilty)} of {len(mine)} samples of {name}"
                run.warning(kind, guilty[0].where, f"{count} {what}")


def check_coordinates(run: Run, items: list[Item], labels: LabelMap) -> None:
    """Each adapter has a training set of its own, hence maybe a convention of its own."""
    for name in (*labels, "out_of_scope"):
        mine = [i for i in items if i.size and class_of(i.sample) == name]
        places = {i.where: coordinates.places_of(i.sample, i.size) for i in mine if i.size}
        if found := coordinates.fault([place for those in places.values() for place in those]):
            bad = (
                w for w, those in places.items() if not all(p.fits(coordinates.OURS) for p in those)
            )
            where = next(bad, next(iter(places)))
            run.warning("coordinates", where, f"answers of {name} {found}")


def check_trivia(run: Run, items: list[Item]) -> None:
    """No rule that looks neither at the picture nor at the request predicts the adapter."""
    labelled = [item for item in items if item.sample.label is not None and item.images]
    sized = [item for item in labelled if item.size]
    _warn_rule(run, "the image size", sized, [item.size for item in sized])
    patterns = [leaks.path_pattern(item.sample.images[0]) for item in labelled]
    _warn_rule(run, "the pattern of the image path", labelled, patterns)
    lengths = [len(item.sample.instruction) for item in labelled]
    _warn_rule(run, "the length of the prompt", labelled, lengths)
    # Training sets of different adapters often come with a system prompt each, which a client
    # that does not know the adapter cannot send.
    systems = ["".join(t.text for t in i.sample.turns if t.role == "system") for i in labelled]
    _warn_rule(run, "the system prompt", labelled, systems)


def _warn_rule(run: Run, what: str, items: list[Item], values: list[Any]) -> None:
    classes = [item.sample.adapter for item in items]
    rule = leaks.rule(values, classes, [item.images[0] for item in items])
    if rule is not None and rule.suspicious:
        run.warning(
            "trivia",
            str(run.path),
            f"{what} alone predicts the adapter for {rule.accuracy:.0%} of the samples, always "
            f"guessing one class for {rule.baseline:.0%}: a router may learn that and fail on "
            "real screens",
        )
