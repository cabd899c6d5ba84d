"""The high-water mark against a plain set of what was seen."""

from hypothesis import given, strategies as st

from buffer.marks import MAX_GAPS, Mark, first


@given(st.lists(st.integers(0, 120), min_size=1, max_size=150))
def test_nothing_new_is_ever_called_old(sequences):
    mark, seen = first(sequences[0]), {sequences[0]}
    for sequence in sequences[1:]:
        if mark.has(sequence):
            assert sequence in seen
        else:
            mark = mark.add(sequence)
        seen.add(sequence)
        assert mark.has(sequence) or sequence < mark.floor
        assert len(mark.gaps) <= MAX_GAPS
    assert Mark.from_row(mark.floor, mark.high, mark.to_text()) == mark


@given(st.permutations(range(20)))
def test_few_gaps_are_all_remembered(order):
    """Every record is known exactly, in whatever order they come."""
    mark = first(order[0])
    for sequence in order[1:]:
        assert not mark.has(sequence)
        mark = mark.add(sequence)
    assert all(mark.has(sequence) for sequence in range(20))
    assert mark.gaps == ()


def test_too_many_gaps_raise_the_floor():
    mark = first(0)
    for sequence in range(2, 2 * (MAX_GAPS + 5), 2):
        mark = mark.add(sequence)
    assert len(mark.gaps) == MAX_GAPS
    assert mark.floor > 0
    assert not mark.has(0)
