"""`num_threads`: for which calls it holds, and what it leaves behind."""

import asyncio
import contextvars
import threading
from collections.abc import Iterator

import pytest

import arrayops as ao


@pytest.fixture(autouse=True)
def five_threads_in_the_process() -> Iterator[None]:
    ao.set_num_threads(5)
    yield
    ao.set_num_threads(None)


def number_in_a_new_thread() -> int:
    found: list[int] = []
    thread = threading.Thread(target=lambda: found.append(ao.get_num_threads()))
    thread.start()
    thread.join()
    return found[0]


def test_nested_blocks() -> None:
    with ao.num_threads(3):
        with ao.num_threads(7):
            assert ao.get_num_threads() == 7
            with ao.num_threads(None):
                assert ao.get_num_threads() == 5
            assert ao.get_num_threads() == 7
        assert ao.get_num_threads() == 3
    assert ao.get_num_threads() == 5


def test_one_object_within_itself() -> None:
    limit = ao.num_threads(3)
    with limit, ao.num_threads(4), limit:
        assert ao.get_num_threads() == 3
    assert ao.get_num_threads() == 5


def test_left_by_an_exception() -> None:
    with pytest.raises(KeyError), ao.num_threads(3):
        raise KeyError
    assert ao.get_num_threads() == 5


def test_decorated_function() -> None:
    @ao.num_threads(2)
    def count_down(depth: int) -> list[int]:
        return [ao.get_num_threads(), *(count_down(depth - 1) if depth else ())]

    assert count_down(2) == [2, 2, 2]
    assert ao.get_num_threads() == 5


def test_other_threads_keep_the_number_of_the_process() -> None:
    with ao.num_threads(3):
        assert number_in_a_new_thread() == 5
        ao.set_num_threads(6)
        assert number_in_a_new_thread() == 6
        assert ao.get_num_threads() == 3


def test_tasks_of_asyncio_do_not_see_each_others() -> None:
    async def limited(count: int) -> list[int]:
        with ao.num_threads(count):
            found = []
            for _ in range(3):
                await asyncio.sleep(0)
                found.append(ao.get_num_threads())
            return found

    async def both() -> list[list[int]]:
        return await asyncio.gather(limited(2), limited(3))

    assert asyncio.run(both()) == [[2] * 3, [3] * 3]
    assert ao.get_num_threads() == 5


def test_a_copied_context_has_it() -> None:
    with ao.num_threads(3):
        context = contextvars.copy_context()
    assert context.run(ao.get_num_threads) == 3


@pytest.mark.parametrize("count", [0, -1, True, 2.0, "2"])
def test_what_is_no_number_of_threads_is_refused_before_the_block(count: object) -> None:
    with pytest.raises(ValueError, match=r"num_threads: count is .*, expected an integer of at least 1, or None"):
        ao.num_threads(count)  # type: ignore[arg-type]
