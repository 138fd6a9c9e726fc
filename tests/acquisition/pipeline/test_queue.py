import threading
import weakref

import numpy as np
import pytest

from refocus.acquisition.pipeline.arrival import Described
from refocus.acquisition.pipeline.frame import CapturedFrame
from refocus.acquisition.pipeline.queue import Fate, FrameQueue, Task, make_policy
from refocus.acquisition.pipeline.stats import Stats
from refocus.configs import RefocusError


def arrival(number):
    pixels = np.full((4, 4), number, np.uint16)
    return Described(CapturedFrame(pixels, number, captured_utc="", captured_ns=0))


def checked(queue):
    return Stats(**vars(queue.counts())).check()


def taken(queue):
    """Take and settle until the queue is empty and over: (capture number, gap) each."""
    frames = []
    while (one := queue.take()) is not None:
        frames.append((one.arrival.describe().frame, one.gap != ""))
        checked(queue)
        if not one.gap:
            assert queue.settle(Task.REFOCUS, Fate.PUBLISHED)
        checked(queue)
    return frames


@pytest.mark.parametrize(
    ("arriving", "capacity", "expected"),
    [
        (0, 2, []),
        (2, 2, [(0, False), (1, False)]),
        (3, 2, [(0, True), (1, False), (2, False)]),
        (6, 1, [(0, True), (1, True), (2, True), (3, True), (4, True), (5, False)]),
    ],
)
def test_newest_drops_the_oldest_and_leaves_a_gap_in_order(arriving, capacity, expected):
    queue = FrameQueue(make_policy("newest"), capacity)
    for number in range(arriving):
        queue.put(arrival(number))
        checked(queue)
    queue.finish()
    assert taken(queue) == expected
    counts = checked(queue)
    assert counts.dropped == sum(gap for _, gap in expected)
    assert counts.in_flight == 0


def test_a_dropped_frame_far_behind_holds_no_memory():
    queue = FrameQueue(make_policy("newest"), 1)
    for number in range(50):
        queue.put(arrival(number))
    held = [one.arrival.describe().pixels.strides != (0, 0) for one in queue._line]
    assert sum(held) <= 2 * queue.capacity
    checked(queue)


@pytest.mark.parametrize("large", [False, True])
def test_frames_that_give_way_are_freed_without_the_worker(monkeypatch, large):
    told = []
    monkeypatch.setattr("refocus.acquisition.pipeline.queue.SMALL_BYTES", 0 if large else 1 << 20)
    queue = FrameQueue(make_policy("newest"), 2, on_alarm=lambda: told.append(1))
    arrays = []
    for number in range(12):
        one = arrival(number)
        arrays.append(weakref.ref(one.describe().pixels))
        queue.put(one)
        del one
        alive = [array() is not None for array in arrays]
        assert sum(alive) <= (2 if not large else 4)  # those waiting, and as many to be discarded
    if large:
        assert len(told) > 2  # by the alarm twice, and that there is something to discard
        queue.discard()
    assert [array() is not None for array in arrays] == [False] * 10 + [True] * 2
    queue.finish()
    assert taken(queue) == [(n, n < 10) for n in range(12)]


def test_throttled_nothing_is_dropped():
    queue = FrameQueue(make_policy("newest"), 2, throttle=True)
    feeder = threading.Thread(
        target=lambda: [*(queue.put(arrival(n)) for n in range(40)), queue.finish()]
    )
    feeder.start()
    assert taken(queue) == [(n, False) for n in range(40)]
    feeder.join()
    assert checked(queue).published == 40


def test_giving_up_releases_a_throttled_camera_and_counts_what_is_left():
    queue = FrameQueue(make_policy("newest"), 1, throttle=True)
    queue.put(arrival(0))
    assert queue.take() is not None
    queue.put(arrival(1))
    feeder = threading.Thread(target=queue.put, args=(arrival(2),))
    feeder.start()
    assert queue.give_up() == 2
    feeder.join()
    counts = checked(queue)
    assert (counts.received, counts.dropped, counts.failed, counts.in_flight) == (3, 2, 1, 0)
    assert not queue.settle(Task.REFOCUS, Fate.PUBLISHED)  # it came back too late
    assert checked(queue) == counts


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: make_policy("oldest"), "'oldest': unknown; choose one of newest, every"),
        (lambda: FrameQueue(make_policy("newest"), 0), "too small; give it 1 or more"),
    ],
)
def test_wrong_settings_are_refused(make, says):
    with pytest.raises(RefocusError, match=says):
        make()
