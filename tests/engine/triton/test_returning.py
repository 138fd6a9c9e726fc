"""The served engine is taken back whatever its opening raised meanwhile; no server in here."""

import threading
from contextlib import closing

import numpy as np

from refocus.engine.fake import FakeEngine
from refocus.engine.protocol import DeviceError
from refocus.engine.triton.returning import ReturningEngine

FRAME = np.zeros((8, 8), np.uint16)


class Gone(FakeEngine):
    def refocus(self, frame):
        raise DeviceError("gone")


def test_whatever_the_opening_raises_the_server_is_looked_for_again():
    again = threading.Event()
    answers = iter([Gone(), OSError("reset"), ValueError("half an answer")])

    def opener():
        answer = next(answers, None)
        if answer is None:
            again.set()
            return FakeEngine()
        if isinstance(answer, Exception):
            raise answer
        return answer

    with closing(ReturningEngine(opener, FakeEngine(), every_s=0.01)) as engine:
        engine.refocus(FRAME)
        assert again.wait(30)
