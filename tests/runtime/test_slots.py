"""How an engine lends its slots to calls; what lies in them takes a GPU."""

import threading

import pytest

from runtime.slots import SlotPool

SOON, LATE = 0.05, 10


def start(function):
    thread = threading.Thread(target=function, daemon=True)
    thread.start()
    return thread


@pytest.fixture
def pool():
    return SlotPool(["a", "b"])


def test_one_thread_uses_one_slot(pool):
    for _ in range(3):
        with pool.lend() as slot:
            assert slot == "b"


def test_a_call_waits_until_a_slot_is_free(pool):
    lent = []

    def third():
        with pool.lend() as slot:
            lent.append(slot)

    with pool.lend() as first:
        with pool.lend() as second:
            assert {first, second} == {"a", "b"}
            thread = start(third)
            thread.join(SOON)
            assert lent == []
        thread.join(LATE)
        assert lent == [second]


def test_a_slot_comes_back_after_an_error(pool):
    for _ in range(3):
        with pytest.raises(ValueError, match="of this test"), pool.lend():
            raise ValueError("of this test")
    with pool.lend(), pool.lend():
        pass


def test_closing_waits_for_calls_and_turns_away_those_that_wait(pool):
    refused = []

    def call():
        try:
            with pool.lend():
                pass
        except RuntimeError as error:
            refused.append(str(error))

    with pool.lend():
        with pool.lend():
            waiting = start(call)
            waiting.join(SOON)
            assert waiting.is_alive()
            closing = start(pool.close)
            waiting.join(LATE)
            assert refused == ["the engine is closed"]
        closing.join(SOON)
        assert closing.is_alive()
    closing.join(LATE)
    assert not closing.is_alive()
    pool.close()
    call()
    assert refused == ["the engine is closed"] * 2
