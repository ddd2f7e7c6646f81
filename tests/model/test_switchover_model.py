# SPDX-License-Identifier: Apache-2.0
"""Changes of channel, every execution of small configurations (docs/switchover.md).

Each configuration must hold, each mutation must be found out, and no line of the model may be one
that no configuration comes to.
"""

from __future__ import annotations

import re
from functools import cache
from typing import TYPE_CHECKING, Final

import pytest
from tests.model.spin import check

if TYPE_CHECKING:
    from tests.model.spin import Outcome

    Macros = dict[str, int | str]

ON: Final = ""
FULL_RINGS: Final[Macros] = {"DROPS": ON, "RECEIVE_RING": 1, "FULL_RING": ON}
TWO_CORES: Final[Macros] = {"RXQ": 2, "CLASSES": 2, "UNTAGGED": ON, "PACKETS": 2, "CONSTANT": ON}
TWO_LINKS: Final[Macros] = {"LINKS": 2, "CLASSES": 2, "PACKETS": 2, "CONSTANT": ON}
TWO_CLASSES: Final[Macros] = {"CLASSES": 2, "PACKETS": 2, "CONSTANT": ON}

DEAD_RECEIVER: Final[Macros] = {
    **TWO_LINKS, "DEAD": ON, "DROPS": ON, "BYPASS_RING": 2, "RECEIVE_RING": 2, "NORMAL_RING": 3,
}  # fmt: skip
DEAD_QUEUE: Final[Macros] = {**DEAD_RECEIVER, "DEAD_QUEUE": ON, "RXQ": 2}

HOLDS: Final[dict[str, Macros]] = {
    # Any moment may be the last at which the sender, or OVS, does something.
    "one queue, in bursts": {"PACKETS": 4, "BURST": 2},
    "small rings": {"PACKETS": 4, "NORMAL_RING": 2, "BYPASS_RING": 2},
    "flapping": {"PACKETS": 3, "FLIPS": 5},
    "one class stays on the bypass": {**TWO_CLASSES, "FLIPS": 2, "START": 2, "FLIPPING": 1},
    "the gate": {**TWO_CLASSES, "FLIPS": 1, "GATES": 2, "START": 3, "FLIPPING": 1},
    "parsed deeper": {**TWO_CLASSES, "FLIPS": 2, "START": 3, "FLIPPING": 2, "DEPTH": ON},
    "receiver on two cores": {**TWO_CORES, "FLIPS": 2},
    "two queues": {"QUEUES": 2, "PACKETS": 2, "CONSTANT": ON, "FLIPS": 1, "START": 1},
    "two ports, each with its thread": {
        "PORTS": 2, "QUEUES": 2, "PACKETS": 2, "CONSTANT": ON, "FLIPS": 1,
    },
    "two links": {**TWO_LINKS, "FLIPS": 2, "START": 2, "FLIPPING": 1},
    "questions and answers": {
        "ECHO": 1, "PORTS": 2, "QUEUES": 2, "LINKS": 2, "PACKETS": 3, "FLIPS": 2, "CONSTANT": ON,
    },
    "full rings": {"PACKETS": 3, "FLIPS": 3, **FULL_RINGS},
    "full rings, two links": {
        **TWO_LINKS, "START": 3, "FLIPPING": 2, "FLIPS": 1, **FULL_RINGS,
    },
    "tx-flush-interval": {"PACKETS": 3, "FLUSH_LATER": ON},
    "a link is taken down and made again": {
        "BURST": 2, "PACKETS": 3, "REMOVALS": 1, "FLIPS": 1, "START": 1,
    },
    "a dead receiver": {**DEAD_RECEIVER, "FLIPS": 1, "START": 2, "FLIPPING": 1},
    "a receiver with one dead queue": {**DEAD_QUEUE, "FLIPS": 0, "START": 1},
}  # fmt: skip

BIGGER: Final[dict[str, Macros]] = {
    "flapping, in bursts": {"PACKETS": 5, "BURST": 2, "FLIPS": 5},
    "two classes": {**TWO_CLASSES, "PACKETS": 3, "FLIPS": 3},
    "two queues": {"QUEUES": 2, "PACKETS": 2, "FLIPS": 3},
    "two queues, receiver on two cores": {
        "QUEUES": 2, "RXQ": 2, "PACKETS": 2, "CONSTANT": ON, "FLIPS": 2,
    },
    "two ports": {"PORTS": 2, "QUEUES": 2, "PACKETS": 2, "CONSTANT": ON, "FLIPS": 2},
    "two links": {**TWO_LINKS, "FLIPS": 2, "START": 3, "BYPASS_RING": 3},
    "full rings, two cores": {
        "QUEUES": 2, "RXQ": 2, "PACKETS": 2, "CONSTANT": ON, "FLIPS": 1, "START": 1, **FULL_RINGS,
    },
    "a receiver with one dead queue": {**DEAD_QUEUE, "FLIPS": 1, "START": 2, "FLIPPING": 1},
    "a link is taken down twice": {"BURST": 2, "PACKETS": 4, "REMOVALS": 2, "FLIPS": 2},
    "two queues, a link is taken down": {
        "QUEUES": 2, "BURST": 2, "PACKETS": 2, "REMOVALS": 1, "FLIPS": 1, "CONSTANT": ON,
    },
}  # fmt: skip

LATER_IN_FRONT = r"B\(|>=next"  # a packet after a later one, or twice
STUCK = "n_ended|got"
BEYOND = "<=bypass.*published"

MUTATIONS: Final[dict[str, tuple[Macros, str]]] = {
    # The protocol without one of its parts.
    "fences are open": ({"PACKETS": 4, "NO_FENCE": ON}, LATER_IN_FRONT),
    "SYNC into one ring": ({**TWO_CORES, "FLIPS": 2, "ONE_RING": ON}, LATER_IN_FRONT),
    "SYNC at once": ({"PACKETS": 4, "SYNC_AT_ENTER": ON}, LATER_IN_FRONT),
    "no LEAVE": ({"PACKETS": 4, "NO_LEAVE": ON}, LATER_IN_FRONT),
    "LEAVE behind the packet": ({"PACKETS": 4, "LEAVE_BEHIND": ON}, LATER_IN_FRONT),
    "normal ring published first": ({"PACKETS": 4, "BURST": 2, "NORMAL_FIRST": ON}, BEYOND),
    "Be not waited for": ({"PACKETS": 4, "NO_HOLD": ON}, LATER_IN_FRONT),
    "a link taken down with packets in it": (
        {**HOLDS["a link is taken down and made again"], "UNDRAINED": ON},
        LATER_IN_FRONT,
    ),
    "no time limit": (
        {**HOLDS["a receiver with one dead queue"], "NO_TIME_LIMIT": ON},
        "sent|got",
    ),
    # As it was built once.
    "marks in the table's order": (
        {**BIGGER["full rings, two cores"], "COMBINED_MARKS": ON},
        STUCK,
    ),
    "a sender remembers one mark to retry": (
        {**HOLDS["full rings, two links"], "RETRY_BY_SENDER": ON},
        STUCK,
    ),
    "tx-flush-interval by the clock alone": (
        {**HOLDS["tx-flush-interval"], "FLUSH_NOT_AWAITED": ON},
        LATER_IN_FRONT,
    ),
}


@cache
def _explored(name: str) -> Outcome:
    return check(HOLDS[name])


@pytest.mark.parametrize("name", HOLDS)
def test_it_holds(name: str) -> None:
    """Every execution of a small configuration; each has thousands of states at the least."""
    outcome = _explored(name)
    assert not outcome.error, str(outcome)
    assert outcome.states > 5_000


@pytest.mark.parametrize("name", ["flapping", "small rings", "a link is taken down and made again"])
def test_nothing_goes_on_for_ever(name: str) -> None:
    """There is no cycle of states: all that moves uses something up, so all is delivered."""
    outcome = check(HOLDS[name], cycles=True)
    assert not outcome.error, str(outcome)
    assert outcome.states > 5_000


@pytest.mark.parametrize("name", MUTATIONS)
def test_a_mutation_is_found_out(name: str) -> None:
    """The same model with one thing wrong."""
    macros, error = MUTATIONS[name]
    outcome = check(macros)
    assert outcome.error, f"not found out in {outcome.states} states"
    assert re.search(error, outcome.error), str(outcome)
    assert outcome.story


@pytest.mark.timeout(600)
def test_two_unfinished_enters_do_no_harm() -> None:
    """That a queue has one unfinished Enter at most is not what keeps its packets in order."""
    for name in ("flapping", "small rings", "full rings", "two links", "receiver on two cores"):
        outcome = check({**HOLDS[name], "TWO_ENTERS": ON})
        assert not outcome.error, str(outcome)


@pytest.mark.timeout(600)  # by itself it has all configurations to explore
def test_every_statement_is_reached() -> None:
    """Some configuration comes to each."""
    outcomes = [_explored(name) for name in HOLDS]
    reached = frozenset[object]().union(*(outcome.reached for outcome in outcomes))
    missing = {
        statement
        for outcome in outcomes
        for statement in outcome.unreached - reached
        if statement.text != "-end-"  # of processes that serve for ever
    }
    assert not missing, "\n".join(map(str, sorted(missing)))


@pytest.mark.long
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("name", BIGGER)
def test_it_holds_in_bigger_configurations(name: str) -> None:
    """Millions of states."""
    outcome = check(BIGGER[name], fast=True)
    assert not outcome.error, str(outcome)
    assert outcome.states > 100_000
