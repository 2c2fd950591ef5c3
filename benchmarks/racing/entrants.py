"""All networks that race, by name, and the suites that they are in."""

from __future__ import annotations

from racing.entrant import Entrant
from racing.suites import end, further, images, larger, small, unseen, with_attention

__all__ = ["ENTRANTS", "SUITES", "select"]

ENTRANTS: dict[str, Entrant] = {
    entrant.name: entrant
    for entrant in (
        *small.entrants(),
        *further.entrants(),
        *images.entrants(),
        *larger.entrants(),
        *end.entrants(),
        *with_attention.entrants(),
        *unseen.entrants(),
    )
}
SUITES: tuple[str, ...] = tuple(dict.fromkeys(suite for entrant in ENTRANTS.values() for suite in entrant.suites))


def select(suites: tuple[str, ...], names: tuple[str, ...]) -> list[Entrant]:
    """The entrants of some suites (of all, where there are none), and of them those that are meant by one of `names`.

    A name means the network of that name, and where there is none, all whose names contain it.
    """
    found = [entrant for entrant in ENTRANTS.values() if not suites or set(suites) & set(entrant.suites)]

    def meant(entrant: Entrant, name: str) -> bool:
        return entrant.name == name if name in ENTRANTS else name.lower() in entrant.name.lower()

    return [entrant for entrant in found if not names or any(meant(entrant, name) for name in names)]
