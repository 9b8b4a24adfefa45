import threading
import time

import pytest

from runtime.parallel import batches, in_background, in_order


def test_batches():
    assert list(batches(range(5), 2)) == [[0, 1], [2, 3], [4]]
    assert list(batches([], 2)) == []


def test_results_keep_the_order_of_the_items():
    def slow_if_even(n):
        time.sleep(0.02 * (n % 2 == 0))
        return n * n

    assert list(in_order(slow_if_even, range(12), workers=4)) == [n * n for n in range(12)]


def test_items_are_taken_ahead_but_not_all():
    taken = []
    release = threading.Event()

    def items():
        for number in range(20):
            taken.append(number)
            yield number

    def wait(number):
        release.wait(10)
        return number

    results = in_order(wait, items(), workers=2, ahead=5)
    threading.Timer(0.3, release.set).start()
    assert next(results) == 0
    assert len(taken) <= 8  # the first, five that wait, and one in each hand
    assert list(results) == list(range(1, 20))


def test_result_does_not_wait_for_further_items():
    more = threading.Event()

    def items():
        yield 1
        more.wait(10)
        yield 2

    results = in_order(str, items(), workers=4)
    start = time.perf_counter()
    assert next(results) == "1"
    assert time.perf_counter() - start < 5
    more.set()
    assert list(results) == ["2"]


def test_consumer_that_stops_ends_all_stages():
    closed = threading.Event()
    results = in_order(str, in_order(int, numbers(closed), workers=2), workers=2)
    assert [next(results), next(results)] == ["0", "1"]
    results.close()
    del results
    assert closed.wait(5)


def test_stages_work_at_the_same_time():
    def slow(n):
        time.sleep(0.02)
        return n

    start = time.perf_counter()
    chain = in_order(slow, in_order(slow, range(20), workers=1), workers=1)
    assert list(chain) == list(range(20))
    assert time.perf_counter() - start < 0.02 * 20 * 2 * 0.8


def test_error_is_raised_where_its_result_is_due():
    def fail_at_two(n):
        return n if n != 2 else 1 / 0

    results = in_order(fail_at_two, range(9), workers=3)
    assert [next(results), next(results)] == [0, 1]
    with pytest.raises(ZeroDivisionError):
        next(results)


def numbers(closed=None, count=10**9, pause=0.0):
    try:
        for number in range(count):
            time.sleep(pause)
            yield number
    finally:
        if closed:
            closed.set()


def background(items, **options):
    return in_background(items, **{"ahead": 3, "stop": threading.Event()} | options)


def test_background_gives_all_items_and_closes():
    closed = threading.Event()
    assert list(background(numbers(closed, 100))) == list(range(100))
    assert closed.wait(5)


def test_background_ends_with_its_consumer():
    closed = threading.Event()
    items = background(numbers(closed))
    assert [next(items), next(items)] == [0, 1]
    items.close()
    assert closed.wait(5)


def test_background_is_stopped_while_it_waits():
    stop, release = threading.Event(), threading.Event()

    def silent():
        yield 1
        release.wait(20)

    items = background(silent(), stop=stop)
    assert next(items) == 1
    threading.Timer(0.1, stop.set).start()
    start = time.perf_counter()
    assert list(items) == []
    assert time.perf_counter() - start < 5
    release.set()


def test_background_raises_the_error_of_its_source():
    def failing():
        yield 1
        raise ValueError("no more")

    items = background(failing())
    assert next(items) == 1
    with pytest.raises(ValueError, match="no more"):
        next(items)


def test_slow_consumer_gets_the_newest_items():
    dropped = []
    items = background(numbers(count=100, pause=0.002), ahead=1, on_drop=lambda: dropped.append(1))
    got = []
    for item in items:
        got.append(item)
        time.sleep(0.03)
    assert got == sorted(got)
    assert got[-1] == 99
    assert len(got) + len(dropped) == 100
    assert len(dropped) > 50


def test_what_was_not_begun_is_dropped_when_the_consumer_stops():
    begun = []

    def work(item):
        begun.append(item)
        time.sleep(0.02)

    results = in_order(work, range(1000), workers=1, ahead=200)
    next(results)
    time.sleep(0.1)  # many wait for the one thread
    results.close()
    assert len(begun) < 50
