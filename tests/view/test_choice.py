import pytest

from refocus.view.choice import Choice
from refocus.view.places import Wanted


def state(p=(0,), c=("DAPI",), z=(0,), positions=()):
    run = {"positions": list(positions)}
    return {"places": {"p": list(p), "c": list(c), "z": list(z)}, "run": run}


@pytest.mark.parametrize(
    ("p", "positions", "named"),
    [
        ((0, 2), ("A1", "A2", "A3"), ["A1", "A3"]),
        ((0, 1), (), ["p 0", "p 1"]),
        ((0, 1), ("A1", ""), ["A1", "p 1"]),
        ((0, 1, 2), ("A1", "A1", "B1"), ["p 0", "p 1", "B1"]),  # a name must tell them apart
    ],
)
def test_positions_have_the_names_of_the_sequence(p, positions, named):
    choice = Choice()
    choice.update(state(p=p, positions=positions))
    assert list(choice.offered["p"].items()) == list(zip(named, p, strict=True))


def test_a_place_that_is_chosen_is_found_by_its_name_in_the_next_run():
    choice = Choice()
    assert choice.wanted == Wanted()
    choice.update(state(p=(0, 1), c=("", "DAPI"), z=(0, 3), positions=("A1", "B1")))
    choice.names |= {"p": "B1", "c": "no name", "z": "z 3"}
    assert choice.wanted == Wanted(1, "", 3)
    choice.update(state(p=(0, 1), c=("",), z=(3,), positions=("B1", "A1")))
    assert (choice.wanted, choice.lacking) == (Wanted(0, "", 3), "")


def test_what_a_run_lacks_is_said_and_nothing_else_is_taken_for_it():
    choice = Choice()
    choice.names |= {"p": "B1", "c": "FITC"}
    choice.update(state(c=(), p=()))
    assert choice.lacking == ""  # a run that has only begun lacks everything
    choice.update(state(positions=("A1",)))
    assert choice.lacking == "nothing of B1, FITC in this run yet"
    assert choice.wanted == Wanted(-1, -1)
