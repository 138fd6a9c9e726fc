"""The queue and its policies against a model that is simple enough to be believed."""

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)

from refocus.acquisition.pipeline.arrival import Described
from refocus.acquisition.pipeline.frame import CapturedFrame
from refocus.acquisition.pipeline.queue import Fate, FrameQueue, Idle, Task, make_policy
from refocus.acquisition.pipeline.stats import Stats


class QueueMachine(RuleBasedStateMachine):
    """What the worker is told must be what the model says, in the order of capture."""

    @initialize(policy=st.sampled_from(["newest", "every"]), capacity=st.integers(1, 5))
    def begin(self, policy, capacity):
        self.policy, self.capacity = policy, capacity
        self.queue = FrameQueue(make_policy(policy), capacity)
        self.line = []  # [number, task, what the worker will hear: frame, gap or deferred]
        self.under_way = []  # tasks, the oldest first
        self.deferred = []
        self.number = 0
        self.counts = dict.fromkeys(["received", "published", "dropped", "failed", "skipped"], 0)
        self.over = self.given_up = False
        self.alarms = 0

    def waiting(self):
        return [entry for entry in self.line if entry[2] == "frame"]

    @rule(task=st.sampled_from(Task))
    def put(self, task):
        pixels = np.full((4, 4), self.number, np.uint16)
        self.queue.put(Described(CapturedFrame(pixels, self.number, "", 0)), task, "left out")
        entry = [self.number, task, "gap" if task is Task.LEAVE else "frame"]
        self.number += 1
        received = task is Task.REFOCUS
        self.counts["received" if received else "skipped"] += 1
        if self.over:
            self.counts["dropped"] += received
            return
        self.line.append(entry)
        waiting = self.waiting()
        if len(waiting) > self.capacity:
            oldest = waiting[0]
            oldest[2] = "gap" if self.policy == "newest" else "deferred"
            if self.policy == "newest":
                self.counts["dropped"] += oldest[1] is Task.REFOCUS

    @precondition(lambda self: len(self.under_way) < 3)
    @rule()
    def take(self):
        taken = self.queue.take(busy=True)
        if not self.line:
            assert taken is (None if self.given_up and self.over else Idle.TIME)
            return
        number, task, what = self.line.pop(0)
        frame = taken.arrival.describe()
        assert (frame.frame, taken.task) == (number, task)
        assert bool(taken.gap) == (what == "gap")
        assert taken.deferred == (what == "deferred")
        if what == "frame":
            assert (frame.pixels == number).all()  # its pixels are there
            self.under_way.append(task)
        if what == "deferred":
            assert np.frombuffer(taken.sample, np.uint16).tolist() == 16 * [number]
            self.deferred.append(task)

    @precondition(lambda self: self.deferred and not self.line)
    @rule()
    def resume(self):
        task = self.deferred.pop(0)
        assert self.queue.resume(task)
        self.under_way.append(task)

    @precondition(lambda self: self.under_way)
    @rule(fate=st.sampled_from([Fate.PUBLISHED, Fate.FAILED]))
    def settle(self, fate):
        task = self.under_way.pop(0)
        assert self.queue.settle(task, fate)
        self.counts[fate.value] += task is Task.REFOCUS

    @rule()
    def finish(self):
        self.queue.finish()
        self.over = True

    @rule()
    def give_up(self):
        lost = self.queue.give_up()
        self.over = True
        dropped = sum(task is Task.REFOCUS for _, task, what in self.line if what != "gap")
        dropped += sum(task is Task.REFOCUS for task in self.deferred)
        failed = sum(task is Task.REFOCUS for task in self.under_way)
        assert lost == dropped + failed
        self.counts["dropped"] += dropped
        self.counts["failed"] += failed
        for entry in self.line:
            entry[2] = "gap"
        self.deferred.clear()
        self.under_way.clear()
        self.given_up = True
        assert not self.queue.settle(Task.REFOCUS, Fate.PUBLISHED)

    @invariant()
    def the_accounts_are_right(self):
        if not hasattr(self, "queue"):
            return
        counts = self.queue.counts()
        stats = Stats(**vars(counts)).check()
        for name, count in self.counts.items():
            assert getattr(stats, name) == count, name
        deferred = [t for _, t, what in self.line if what == "deferred"] + self.deferred
        assert stats.deferred == sum(task is Task.REFOCUS for task in deferred)
        waiting = self.waiting()
        assert len(waiting) <= self.capacity
        queued = sum(task is Task.REFOCUS for _, task, _ in waiting)
        assert stats.queued == queued
        assert stats.in_flight == queued + sum(task is Task.REFOCUS for task in self.under_way)
        with_pixels = [e for e in self.queue._line if e.arrival.describe().pixels.strides != (0, 0)]
        assert len(with_pixels) <= 2 * self.capacity  # memory is bounded whatever happens
        assert self.queue.owed == len(waiting) + len(self.under_way) + len(deferred)
        assert stats.peak <= self.capacity
        assert stats.alarms_full >= self.alarms
        self.alarms = stats.alarms_full


TestQueue = QueueMachine.TestCase
TestQueue.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)


@pytest.mark.parametrize(
    ("capacity", "waiting", "alarm"),
    [(8, 5, ""), (8, 6, "high"), (8, 7, "high"), (8, 8, "full"), (4, 3, "high"), (1, 1, "full")],
)
def test_the_alarm_is_raised_at_three_quarters_and_at_full(capacity, waiting, alarm):
    rung = []
    queue = FrameQueue(make_policy("newest"), capacity, on_alarm=lambda: rung.append(1))
    for number in range(waiting):
        queue.put(Described(CapturedFrame(np.zeros((4, 4), np.uint8), number, "", 0)))
    assert queue.counts().alarm == alarm
    assert len(rung) == bool(alarm) + (alarm == "full" and capacity >= 4)
    for _ in range(waiting):
        queue.take()
        queue.settle(Task.REFOCUS, Fate.PUBLISHED)
    assert Stats(**vars(queue.counts())).check().alarm == ""
