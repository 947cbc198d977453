"""The mailbox: the newest frame wins, and nobody waits for ever."""

from collections.abc import Callable
from functools import partial
from threading import Barrier, Thread

from dpt_ros.ros.mailbox import Mailbox

PATIENCE = 20.0  # seconds after which a thread counts as stuck


def in_thread(work: Callable[[], object]) -> Callable[[], object]:
    """Start work in a thread; what is returned waits for its result."""
    results: list[object] = []
    thread = Thread(target=lambda: results.append(work()), daemon=True)
    thread.start()

    def result() -> object:
        thread.join(PATIENCE)
        assert not thread.is_alive(), 'the thread is stuck'
        return results[0]

    return result


def test_what_was_put_is_taken():
    mailbox = Mailbox[str]()
    mailbox.put('front', 'a')
    assert mailbox.take() == {'front': 'a'}


def test_the_newest_wins():
    mailbox = Mailbox[str]()
    for item in 'abc':
        mailbox.put('front', item)
    assert mailbox.take() == {'front': 'c'}


def test_nothing_is_taken_twice():
    mailbox = Mailbox[str]()
    mailbox.put('front', 'a')
    mailbox.take()
    mailbox.put('rear', 'b')
    assert mailbox.take() == {'rear': 'b'}


def test_every_source_gets_its_turn():
    mailbox = Mailbox[int]()
    mailbox.put('rear', 0)
    for item in range(100):  # a fast camera does not push a slow one out
        mailbox.put('front', item)
    assert mailbox.take() == {'front': 99, 'rear': 0}


def test_what_came_and_what_was_replaced_are_counted():
    mailbox = Mailbox[int]()
    assert (mailbox.arrived.total(), mailbox.dropped.total()) == (0, 0)
    for item in range(5):
        mailbox.put('front', item)
    mailbox.put('rear', 0)
    mailbox.take()
    mailbox.put('front', 5)
    assert mailbox.arrived == {'front': 6, 'rear': 1}
    assert mailbox.dropped == {'front': 4, 'rear': 0}


def test_an_item_that_is_false_is_an_item():
    mailbox = Mailbox[int]()
    mailbox.put('front', 0)
    mailbox.put('front', 0)
    assert mailbox.dropped['front'] == 1
    assert mailbox.take() == {'front': 0}


def test_put_wakes_who_waits():
    mailbox = Mailbox[str]()
    taken = in_thread(mailbox.take)
    mailbox.put('front', 'a')
    assert taken() == {'front': 'a'}


def test_close_wakes_all_who_wait():
    mailbox = Mailbox[str]()
    takers = [in_thread(mailbox.take) for _ in range(3)]
    mailbox.close()
    assert [taken() for taken in takers] == [None] * 3


def test_a_closed_mailbox_gives_nothing_more():
    mailbox = Mailbox[str]()
    mailbox.put('front', 'a')
    mailbox.close()
    assert mailbox.take() is None
    assert mailbox.dropped['front'] == 1


def test_what_comes_after_the_end_is_not_kept():
    mailbox = Mailbox[str]()
    mailbox.close()
    mailbox.put('front', 'a')
    assert mailbox.take() is None


def test_closing_twice_is_closing():
    mailbox = Mailbox[str]()
    mailbox.put('front', 'a')
    mailbox.close()
    mailbox.close()
    assert mailbox.dropped['front'] == 1


def test_many_threads_lose_no_count_and_keep_each_source_in_order():
    mailbox, items, sources = Mailbox[int](), 2000, ('front', 'rear', 'left')
    together = Barrier(len(sources) + 1)

    def put(source: str) -> None:
        together.wait(PATIENCE)
        for item in range(items):
            mailbox.put(source, item)

    def take() -> list[tuple[str, int]]:
        together.wait(PATIENCE)
        taken: list[tuple[str, int]] = []
        while (new := mailbox.take()) is not None:
            taken.extend(new.items())
        return taken

    writers, reader = [in_thread(partial(put, source)) for source in sources], in_thread(take)
    for writer in writers:
        writer()
    mailbox.close()
    taken = reader()
    assert mailbox.arrived.total() == items * len(sources) == len(taken) + mailbox.dropped.total()
    for source in sources:
        seen = [item for name, item in taken if name == source]
        assert seen == sorted(set(seen))
