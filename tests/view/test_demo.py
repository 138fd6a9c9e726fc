"""The microscope of the demo, with an engine that is slower than its camera."""

import threading

from refocus.engine.fake import FakeEngine
from refocus.stream.messages import StatsHeader
from refocus.stream.subscriber import ReceivedFrame, subscribe
from refocus.view import demo


def test_it_waits_for_the_engine_and_drops_nothing(free_endpoint):
    over = threading.Event()
    slow = FakeEngine(seconds=2 / demo.FPS)
    microscope = threading.Thread(
        target=demo.acquire, args=(free_endpoint, slow, over), daemon=True
    )
    microscope.start()
    frames, counts = [], []
    try:
        for message in subscribe(free_endpoint, runs=None).messages():
            if isinstance(message, ReceivedFrame):
                frames.append(message.header.frame)
            elif isinstance(message, StatsHeader):
                counts.append(message)
                if len(frames) >= 16:
                    break
    finally:
        over.set()
        microscope.join()
    assert frames == list(range(frames[0], frames[0] + len(frames)))
    assert {one.frames.get("dropped", 0) for one in counts} == {0}
    assert {one.alarm for one in counts} == {""}
