"""One model of one Triton server: found, checked, and asked."""

from collections.abc import Mapping, Sequence
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from refocus.configs import in_a_line, reason_of
from refocus.engine.prepare import STRIDE
from refocus.engine.protocol import DeviceError, EngineError, log
from refocus.engine.triton.address import Address
from refocus.engine.triton.shared import ANSWER_S, Part, SharedArrays, can_share
from refocus.engine.triton.signature import check_signature, version_number

if TYPE_CHECKING:
    from tritonclient.utils import InferenceServerException

CHANNEL = [
    ("grpc.max_send_message_length", -1),
    # five times what the largest frame that is sent whole is answered with
    ("grpc.max_receive_message_length", 1 << 28),
    # a server that is back is found again within seconds, and not within minutes
    ("grpc.initial_reconnect_backoff_ms", 500),
    ("grpc.max_reconnect_backoff_ms", 2000),
]
TYPES: dict[str, np.dtype[Any]] = {"FP32": np.dtype(np.float32), "FP16": np.dtype(np.float16)}
MEANS_THIS_FRAME = "StatusCode.INVALID_ARGUMENT"


class Connection:
    """Asks a server for what a model makes of frames; from several threads at once.

    Parameters
    ----------
    address
        Of the server.
    name
        Of the model there.
    signed
        What identifies the model that is meant, see :mod:`refocus.engine.triton.signature`.
    inputs
        Channels that the model is shown.
    outputs
        What is asked of it.
    at_once
        How many frames may be asked for at once.

    Raises
    ------
    DeviceError
        No server answers, it has no such model, or the model is not ready.
    EngineError
        The model there is another.
    """

    def __init__(
        self,
        address: Address,
        name: str,
        signed: Mapping[str, str],
        *,
        inputs: int,
        outputs: Sequence[str],
        at_once: int,
    ) -> None:
        self._grpc, self._utils = _client_modules()
        self.where = address.target
        self.name, self._inputs, self._outputs = name, inputs, tuple(outputs)
        self._version = str(version_number(signed))
        try:
            self._client = self._grpc.InferenceServerClient(
                address.target,
                ssl=address.tls,
                root_certificates=address.ca,
                private_key=address.key,
                certificate_chain=address.cert,
                # what is for this host goes past a proxy, which is on another
                channel_args=[*CHANNEL, ("grpc.enable_http_proxy", int(not address.on_this_host))],
            )
        except OSError as error:
            raise EngineError(f"{error.filename}: cannot be read ({reason_of(error)})") from error
        try:
            self._open(address, signed)
        except BaseException:
            self._client.close()
            raise
        # what each output is of a frame (H, W): channels, and the size of a pixel of it
        self._layout: dict[str, tuple[int, int]] = {}
        self._rooms: SimpleQueue[SharedArrays | None] = SimpleQueue()
        for _ in range(at_once):
            self._rooms.put(None)
        self._shares = address.on_this_host and can_share()

    def _open(self, address: Address, signed: Mapping[str, str]) -> None:
        try:
            server = self._client.get_server_metadata(client_timeout=ANSWER_S)
        except self._utils.InferenceServerException as error:
            reason = _line(error).rpartition(": ")[2]
            other = "" if address.tls else "; or it answers in the other of grpc:// and grpcs://"
            raise DeviceError(
                f"{self.where}: no Triton server answers there ({reason}); start it, and "
                f"give the port that it answers gRPC on{other}"
            ) from error
        self.server = _told(f"{server.name} {server.version}")
        try:
            found = self._client.get_model_config(self.name, client_timeout=ANSWER_S).config
            theirs = {key: value.string_value for key, value in found.parameters.items()}
            check_signature(signed, theirs, self.where, self.name)
            described = self._client.get_model_metadata(
                self.name, self._version, client_timeout=ANSWER_S
            )
            ready = self._client.is_model_ready(self.name, self._version, client_timeout=ANSWER_S)
        except self._utils.InferenceServerException as error:
            raise DeviceError(self._not_served(_line(error))) from error
        if not ready:
            raise DeviceError(self._not_served("it is not ready"))
        self.device = _told(theirs.get("device", described.platform))
        self.precision = _told(theirs.get("precision", "f32"))
        self._fit(described)

    def _fit(self, described: Any) -> None:
        """Refuse a model that takes or gives something else."""
        given = {t.name: t for t in described.outputs}
        lacking = [name for name in self._outputs if name not in given]
        taken = described.inputs[0] if len(described.inputs) == 1 else None
        shape = () if taken is None else tuple(taken.shape)
        if (
            taken is None
            or lacking
            or len(shape) != 4
            or shape[1] not in (-1, self._inputs)
            or {taken.datatype, *(given[name].datatype for name in self._outputs)} - set(TYPES)
        ):
            takes = "×".join(str(n) for n in shape) or f"{len(described.inputs)} inputs"
            gives = ", ".join(sorted(given))
            raise EngineError(
                f"{self.where}: the model {self.name} there takes {takes} and gives {gives}; "
                f"{self._inputs} channels and {', '.join(self._outputs)} are needed: write its "
                "repository again with 'refocus-export triton'"
            )
        self._taken, self._shape = taken, shape
        self._types = {name: TYPES[given[name].datatype] for name in self._outputs}

    def infer(self, pixels: NDArray[np.float32]) -> tuple[NDArray[np.float32], ...]:
        """Ask what the model makes of a frame ``(C, H, W)``; waits.

        Returns
        -------
        tuple of ndarray
            ``(C', H/s, W/s)`` each, in the order of the outputs.

        Raises
        ------
        EngineError
            The model there is not for frames of this size.
        DeviceError
            The server is gone, failed, or gave something else than was asked for.
        """
        height, width = pixels.shape[-2:]
        for n, side in zip((height, width), self._shape[2:], strict=True):
            if side not in (-1, n):
                raise EngineError(
                    f"{self.where}: the model {self.name} there is for frames of "
                    f"{self._shape[2]}×{self._shape[3]}, and this one takes {height}×{width}; "
                    "write its repository again for this size"
                )
        batch = pixels.reshape(1, self._inputs, height, width).astype(
            TYPES[self._taken.datatype], copy=False
        )
        room = self._rooms.get()
        try:
            room = self._fitting(room, batch)
            return self._through(room, batch)
        except self._utils.InferenceServerException as error:
            raise self._failure(error, (height, width)) from error
        finally:
            self._rooms.put(room)

    def close(self) -> None:
        """Let the server forget what it shares, and leave it."""
        while True:
            try:
                room = self._rooms.get_nowait()
            except Empty:
                break
            if room is not None:
                self._forget(room)
        self._client.close()

    def live(self) -> bool:
        """Tell whether the server answers now."""
        try:
            return bool(self._client.is_server_live(client_timeout=ANSWER_S))
        except self._utils.InferenceServerException:
            return False

    def _through(
        self, room: SharedArrays | None, batch: NDArray[Any]
    ) -> tuple[NDArray[np.float32], ...]:
        given = self._grpc.InferInput(self._taken.name, batch.shape, self._taken.datatype)
        wanted = [self._grpc.InferRequestedOutput(name) for name in self._outputs]
        if room is None:
            given.set_data_from_numpy(batch)
        else:
            room[self._taken.name][...] = batch
            for tensor in (given, *wanted):
                offset, size = room.places[tensor.name()]
                tensor.set_shared_memory(room.region, size, offset)
        result = self._answer(given, wanted)
        layout = {name: self._layout_of(result.get_output(name), batch) for name in self._outputs}
        if self._layout and layout != self._layout:
            raise self._unfit("other arrays than before", batch)
        try:
            arrays = [
                result.as_numpy(name) if room is None else room[name] for name in self._outputs
            ]
        except ValueError as error:
            raise self._unfit("arrays that are not whole", batch) from error
        self._layout = layout
        # copied: the memory is the next frame's
        return tuple(np.array(array[0], np.float32) for array in arrays)

    def _layout_of(self, said: Any, batch: NDArray[Any]) -> tuple[int, int]:
        """Give channels and pixel of what is said to be there; with shared memory nothing else is.

        Raises
        ------
        DeviceError
            It is not there, or nothing that a network makes of this frame.
        """
        if said is None:
            raise self._unfit("less than was asked for", batch)
        shape, sides = tuple(said.shape), batch.shape[2:]
        scale = sides[0] // max(shape[2], 1) if len(shape) == 4 else 0
        if (
            said.datatype not in TYPES
            or TYPES[said.datatype] != self._types[said.name]
            or scale < 1
            or STRIDE % scale
            or shape != (1, max(shape[1], 1), *(side // scale for side in sides))
            or (said.name == "refocused" and (shape[1], scale) != (1, 1))
        ):
            raise self._unfit(f"{said.name} as {said.datatype[:20]} {list(shape)[:5]}", batch)
        return shape[1], scale

    def _unfit(self, gave: str, batch: NDArray[Any]) -> DeviceError:
        size = f"{batch.shape[2]}×{batch.shape[3]}"
        return DeviceError(
            f"{self.where}: of a frame of {size} the model {self.name} there gave {in_a_line(gave)}"
        )

    def _answer(self, given: Any, wanted: list[Any]) -> Any:
        """Wait for an answer for as long as the server is alive."""
        answers: SimpleQueue[tuple[Any, InferenceServerException | None]] = SimpleQueue()
        call = self._client.async_infer(
            self.name,
            [given],
            lambda result, error: answers.put((result, error)),
            model_version=self._version,
            outputs=wanted,
        )
        while True:
            try:
                result, error = answers.get(timeout=ANSWER_S)
            except Empty:
                if self.live():
                    continue
                call.cancel()
                raise DeviceError(f"{self.where}: the server does not answer any more") from None
            if error is not None:
                raise error
            return result

    def _fitting(self, room: SharedArrays | None, batch: NDArray[Any]) -> SharedArrays | None:
        """Give memory for this frame's arrays; None to send them in messages."""
        if not self._shares or not self._layout:
            return None  # the first answer tells what answers look like
        parts: dict[str, Part] = {self._taken.name: (batch.shape, batch.dtype)}
        for name, (channels, scale) in self._layout.items():
            size = batch.shape[2] // scale, batch.shape[3] // scale
            parts[name] = (1, channels, *size), self._types[name]
        if room is not None:
            if room.parts == parts:
                return room
            self._forget(room)
        try:
            return SharedArrays(self._client, parts)
        except (OSError, self._utils.InferenceServerException) as error:
            if not isinstance(error, OSError) and not self.live():
                raise
            self._shares = False
            log.info(
                "%s: no memory is shared with the server, frames go in messages (%s)",
                self.where,
                _line(error),
            )
            return None

    def _forget(self, room: SharedArrays) -> None:
        try:
            room.release(self._client)
        except self._utils.InferenceServerException as error:
            log.debug("%s: %s", self.where, _line(error))

    def _failure(self, error: "InferenceServerException", shape: tuple[int, int]) -> EngineError:
        said = _line(error)
        if error.status() == MEANS_THIS_FRAME and "shared memory" not in said:
            return EngineError(
                f"{self.where}: the model {self.name} there refuses a frame of "
                f"{shape[0]}×{shape[1]} ({said}); write its repository again for this size"
            )
        return DeviceError(f"{self.where}: the model {self.name} failed there ({said})")

    def _not_served(self, why: str) -> str:
        try:
            index = self._client.get_model_repository_index(client_timeout=ANSWER_S).models
        except self._utils.InferenceServerException:
            index = []
        reasons = [m.reason for m in index if m.name == self.name and m.reason]
        there = ", ".join(sorted({m.name for m in index if m.state == "READY"})) or "none"
        return (
            f"{self.where}: the model {self.name} is not served there "
            f"({_told((reasons or [why])[0])}); served: {_told(there)}. 'refocus-export triton' "
            "writes a repository of it"
        )


def _client_modules() -> tuple[Any, Any]:
    try:
        import tritonclient.grpc as client
        from tritonclient import utils
    except ImportError as error:
        raise EngineError(
            f"Triton's client cannot be imported ({error}); install it: "
            "pip install 'refocus-live[triton]'"
        ) from error
    return client, utils


def _line(error: Exception) -> str:
    """Give the telling line of gRPC's many."""
    message = error.message() if hasattr(error, "message") else str(error)
    return _told((str(message).strip().splitlines() or [type(error).__name__])[0])


def _told(text: str) -> str:
    """Give what a server says as a line that is not too long."""
    return in_a_line(text)[:200]
