"""What a server may answer that is no result of the frame it was sent."""

import mmap
import os
import socket
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from typing import Any

import numpy as np
import pytest

from refocus.engine.protocol import DeviceError
from refocus.engine.triton.address import read_address
from refocus.engine.triton.connection import Connection
from refocus.engine.triton.shared import can_share

pytest.importorskip("tritonclient.grpc", reason="needs [triton]")
import grpc
from tritonclient.grpc import model_config_pb2, service_pb2, service_pb2_grpc

FRAME = np.linspace(0, 1, 64 * 96, dtype=np.float32).reshape(1, 64, 96)
SIGNED = {f"refocus-{key}": "1" for key in ("format", "model", "version", "sha256", "graph-sha256")}
OUTPUTS = {"refocused": (1, 1, 64, 96), "focus": (1, 2, 16, 24)}

Answer = Callable[[Any], Any]


class Liar(service_pb2_grpc.GRPCInferenceServiceServicer):  # type: ignore[misc]
    """Answers as a model would, until it is told how to lie."""

    def __init__(self) -> None:
        self.lie: Answer = lambda answer: answer
        self.server = "triton"
        self.shared: dict[str, mmap.mmap] = {}

    def ServerMetadata(self, request: Any, context: Any) -> Any:
        return service_pb2.ServerMetadataResponse(name=self.server, version="2")

    def ServerLive(self, request: Any, context: Any) -> Any:
        return service_pb2.ServerLiveResponse(live=True)

    def ModelReady(self, request: Any, context: Any) -> Any:
        return service_pb2.ModelReadyResponse(ready=True)

    def ModelConfig(self, request: Any, context: Any) -> Any:
        config = model_config_pb2.ModelConfig()
        for key, value in SIGNED.items():
            config.parameters[key].string_value = value
        return service_pb2.ModelConfigResponse(config=config)

    def ModelMetadata(self, request: Any, context: Any) -> Any:
        found = service_pb2.ModelMetadataResponse(platform=self.server)
        found.inputs.add(name="frames", datatype="FP32", shape=[-1, 1, -1, -1])
        for name in OUTPUTS:
            found.outputs.add(name=name, datatype="FP32", shape=[-1, -1, -1, -1])
        return found

    def SystemSharedMemoryRegister(self, request: Any, context: Any) -> Any:
        number = os.open(f"/dev/shm{request.key}", os.O_RDWR)
        self.shared[request.name] = mmap.mmap(number, request.byte_size)
        os.close(number)
        return service_pb2.SystemSharedMemoryRegisterResponse()

    def SystemSharedMemoryUnregister(self, request: Any, context: Any) -> Any:
        self.shared.pop(request.name)
        return service_pb2.SystemSharedMemoryUnregisterResponse()

    def SystemSharedMemoryStatus(self, request: Any, context: Any) -> Any:
        return service_pb2.SystemSharedMemoryStatusResponse()

    def ModelInfer(self, request: Any, context: Any) -> Any:
        answer = service_pb2.ModelInferResponse()
        for name, shape in OUTPUTS.items():
            answer.outputs.add(name=name, datatype="FP32", shape=shape)
            if not self.shared:
                answer.raw_output_contents.append(np.ones(shape, np.float32).tobytes())
        return self.lie(answer)


@contextmanager
def running(liar: Liar) -> Iterator[Connection]:
    server = grpc.server(ThreadPoolExecutor(4))
    service_pb2_grpc.add_GRPCInferenceServiceServicer_to_server(liar, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        address = read_address(f"grpc://127.0.0.1:{port}")
        with closing(
            Connection(address, "model", SIGNED, inputs=1, outputs=list(OUTPUTS), at_once=1)
        ) as connection:
            yield connection
    finally:
        server.stop(None)


def shaped(output: int, *shape: int) -> Answer:
    """Have an output of another shape."""

    def lie(answer: Any) -> Any:
        answer.outputs[output].shape[:] = shape
        if answer.raw_output_contents:
            answer.raw_output_contents[output] = bytes(4 * int(np.prod(np.abs(shape))))
        return answer

    return lie


def without_focus(answer: Any) -> Any:
    answer.outputs.pop()
    return answer


def of_text(answer: Any) -> Any:
    answer.outputs[0].datatype = "BYTES"
    return answer


def cut_short(answer: Any) -> Any:
    if not answer.raw_output_contents:
        return service_pb2.ModelInferResponse()
    answer.raw_output_contents[0] = bytes(4)
    return answer


LIES = {
    "half the size": shaped(0, 1, 1, 32, 48),
    "two channels": shaped(0, 1, 2, 64, 96),
    "no axes": shaped(0),
    "no rows": shaped(0, 1, 1, 0, 96),
    "no frame": shaped(0, 0, 1, 64, 96),
    "less than nothing": shaped(0, 1, 1, -64, 96),
    "another pixel": shaped(1, 1, 2, 16, 96),
    "no channel": shaped(1, 1, 0, 16, 24),
    "not all": without_focus,
    "nothing": lambda answer: service_pb2.ModelInferResponse(),
    "text": of_text,
    "cut short": cut_short,
}


@pytest.mark.parametrize("honest_before", [0, 2])
@pytest.mark.parametrize("lie", LIES)
def test_an_answer_that_is_no_result_of_the_frame_fails_as_a_server_that_went(
    lie: str, honest_before: int
) -> None:
    liar = Liar()
    with running(liar) as connection:
        for _ in range(honest_before):
            assert [part.shape for part in connection.infer(FRAME)] == [(1, 64, 96), (2, 16, 24)]
        assert bool(liar.shared) == (honest_before > 1 and can_share())
        liar.lie = LIES[lie]
        with pytest.raises(DeviceError, match=r"of a frame of 64×96 .* gave ") as told:
            connection.infer(FRAME)
        assert "\n" not in str(told.value)


def test_channels_do_not_change_in_mid_run() -> None:
    liar = Liar()
    with running(liar) as connection:
        connection.infer(FRAME)
        liar.lie = shaped(1, 1, 3, 16, 24)
        with pytest.raises(DeviceError, match="other arrays than before"):
            connection.infer(FRAME)


def test_what_a_server_says_of_itself_is_text_of_one_line() -> None:
    liar = Liar()
    liar.server = "\x1b]0;title\x07\n" + "x" * 10_000
    with running(liar) as connection:
        assert connection.server.isprintable()
        assert connection.device.isprintable()
        assert max(len(connection.server), len(connection.device)) == 200


def test_frames_for_this_host_do_not_go_through_a_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as proxy:
        monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{proxy.getsockname()[1]}")
        monkeypatch.delenv("no_proxy", raising=False)
        proxy.settimeout(0)
        with running(Liar()) as connection:
            connection.infer(FRAME)
        with pytest.raises(BlockingIOError):  # nobody came
            proxy.accept()
