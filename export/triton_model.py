"""Serves the model beside this file with OpenVINO, on the CPU or an Intel GPU of the server.

Written by 'refocus-export triton --backend python'. The server's Python needs openvino and numpy.
"""

import hashlib
import json
import os
import sys
from collections import OrderedDict
from pathlib import Path
from typing import Any

# the server's Python is isolated, and would not look where its user tells it to: not for NumPy
# either, which the next line needs
sys.path.extend(filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep)))

import triton_python_backend_utils as triton

SHAPES_KEPT = 4


class TritonPythonModel:
    """What Triton calls."""

    def initialize(self, args: dict[str, str]) -> None:
        """Read the model, and refuse one that is not what the configuration says."""
        import openvino

        config = json.loads(args["model_config"])
        told = {key: value["string_value"] for key, value in config["parameters"].items()}
        file = Path(args["model_repository"]) / args["model_version"] / "model.onnx"
        content = file.read_bytes()
        if hashlib.sha256(content).hexdigest() != told["file-sha256"]:
            raise RuntimeError(f"{file}: not the file that was exported; export it again")
        self._core = openvino.Core()
        self._graph = self._core.read_model(content)
        self._outputs = [output["name"] for output in config["output"]]
        self._device = told["device"]
        self._options = {
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_PRECISION_HINT": told["precision"],
        }
        if self._device == "CPU" and int(told["threads"]):
            self._options["INFERENCE_NUM_THREADS"] = int(told["threads"])
        self._requests: OrderedDict[tuple[int, ...], Any] = OrderedDict()

    def execute(self, requests: list[Any]) -> list[Any]:
        """Run frames one by one: each already uses every thread that it is allowed."""
        return [self._response(request) for request in requests]

    def _response(self, request: Any) -> Any:
        import numpy

        try:
            # by DLPack both ways: what a server of 2024 knows of arrays is wrong for NumPy 2
            frame = numpy.from_dlpack(triton.get_input_tensor_by_name(request, "frames"))
            running = self._request(frame.shape)
            running.infer({0: frame}, share_inputs=True)
            asked = request.requested_output_names()
            tensors = [
                triton.Tensor.from_dlpack(name, running.get_tensor(name).data)
                for name in self._outputs
                if name in asked
            ]
        except RuntimeError as error:
            words = str(error).strip().splitlines() or [type(error).__name__]
            return triton.InferenceResponse(error=triton.TritonError(words[-1]))
        return triton.InferenceResponse(tensors)

    def _request(self, shape: tuple[int, ...]) -> Any:
        running = self._requests.get(shape)
        if running is None:
            graph = self._graph.clone()
            graph.reshape(list(shape))
            compiled = self._core.compile_model(graph, self._device, self._options)
            running = self._requests[shape] = compiled.create_infer_request()
            while len(self._requests) > SHAPES_KEPT:
                self._requests.popitem(last=False)
        self._requests.move_to_end(shape)
        return running
