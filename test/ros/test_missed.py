"""What never came is told by the numbers of what came."""

from dpt_ros.ros.missed import Gaps, PUBLISHERS


def info(number, publisher=b'camera'):
    return {
        'publication_sequence_number': number,
        'publisher_gid': {'implementation_identifier': 'rmw_fastrtps_cpp', 'data': publisher},
    }


def test_one_after_the_other_is_no_gap():
    gaps = Gaps()
    assert [gaps(info(number)) for number in (7, 8, 9)] == [0, 0, 0]


def test_a_gap_is_as_long_as_what_is_missing():
    gaps = Gaps()
    assert [gaps(info(number)) for number in (1, 2, 6, 7, 9)] == [0, 0, 3, 0, 1]


def test_each_publisher_has_its_own_numbers():
    gaps = Gaps()
    came = [(5, b'a'), (100, b'b'), (6, b'a'), (103, b'b')]
    assert [gaps(info(*one)) for one in came] == [0, 0, 0, 2]


def test_what_comes_late_is_no_gap_and_makes_none():
    gaps = Gaps()
    assert [gaps(info(number)) for number in (1, 3, 2, 4)] == [0, 1, 0, 0]


def test_a_middleware_without_numbers_or_publishers_tells_nothing():
    gaps = Gaps()
    assert gaps({'source_timestamp': 1, 'received_timestamp': 2}) == 0
    assert gaps(info(None)) == gaps({**info(9), 'publisher_gid': None}) == 0


def test_publishers_that_come_and_go_leave_nothing_behind():
    gaps = Gaps()
    for name in range(1000):
        gaps(info(1, b'%d' % name))
        assert gaps(info(2 * name + 3, b'lasting')) == (1 if name else 0)
    assert len(gaps._last) == PUBLISHERS
