"""The mark against a plain set of what was seen."""

from hypothesis import given, strategies as st

from buffer.marks import MAX_RUNS, Mark, Run

steps = st.sampled_from([1, 1, 2, 5])


def filled(sequences, step=1):
    mark = Mark()
    for sequence in sequences:
        if not mark.has(sequence):
            mark = mark.add(sequence, step)
    return mark


@given(st.lists(st.tuples(st.integers(0, 400), steps), min_size=1, max_size=200))
def test_nothing_new_is_ever_called_old(records):
    """Whatever is guessed of the distance: a record that is called old was here, or it would be dropped."""
    mark, seen = Mark(), set()
    for sequence, step in records:
        if mark.has(sequence):
            assert sequence in seen
        else:
            mark = mark.add(sequence, step)
        seen.add(sequence)
        assert mark.has(sequence) or sequence < mark.floor
        assert len(mark.runs) <= MAX_RUNS
        assert all(mark.has(known) for known in seen if known >= mark.floor)
    assert Mark.from_row(mark.floor, mark.settled, mark.to_text()) == mark


@given(st.permutations(range(0, 100, 5)), st.sampled_from([1, 5]))
def test_whatever_the_order_all_become_one_run(order, step):
    mark = filled(order, step)
    assert [sequence for sequence in range(100) if mark.has(sequence)] == list(range(0, 100, 5))
    if step == 5:
        assert mark.runs == (Run(0, 95, 5),)


def test_too_many_runs_raise_the_floor():
    mark = filled(range(0, 3 * (MAX_RUNS + 5), 3))
    assert len(mark.runs) == MAX_RUNS
    assert mark.floor > 0
    assert not mark.has(0)


def test_what_lies_between_neighbours_is_not_missing_but_not_here_either():
    mark = filled([0, 5, 10, 15], step=5)
    assert mark.missing(5) == 16
    assert not mark.has(7)
    assert mark.add(7, 5).has(7)
    assert [mark.add(7, 5).has(sequence) for sequence in (5, 6, 10, 15)] == [True, False, True, True]


def test_holes_until_they_are_settled():
    mark = filled([10, 11, 12, 20, 21])
    assert list(mark.holes(1)) == [(0, 9), (13, 19)]
    assert (mark.missing(1), mark.high) == (0, 21)
    settled = mark.settle()
    assert (list(settled.holes(1)), settled.missing(1)) == ([], 22)
    assert not settled.has(15)
    later = settled.add(25)
    assert list(later.holes(1)) == [(22, 24)]
    assert later.missing(1) == 22


def test_an_empty_mark():
    assert (Mark().missing(1), Mark().high, Mark().has(0)) == (0, -1, False)
    assert Mark(5, 5).missing(1) == 5
