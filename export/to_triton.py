"""ONNX to a model repository of NVIDIA Triton: the model, and how it is served.

The layout is Triton's: ``REPOSITORY/NAME/config.pbtxt`` and ``REPOSITORY/NAME/VERSION/``
(https://docs.nvidia.com/deeplearning/triton-inference-server, "model repository").
"""

import hashlib
import json
import re
import tempfile
from dataclasses import dataclass
from pathlib import Path

import onnx

from refocus.configs import ModelCard, RefocusError, reason_of
from refocus.engine.half_precision import half_precision, precision
from refocus.engine.model_file import embed_card, read_model
from refocus.engine.package import model_in_package
from refocus.engine.tensorrt.cache import read_description, read_plan
from refocus.engine.triton.signature import signature, version_number

BACKENDS = {"onnx": "onnxruntime", "tensorrt": "tensorrt", "python": "python"}
"""Triton's own names."""
TYPES: dict[int, str] = {onnx.TensorProto.FLOAT: "TYPE_FP32", onnx.TensorProto.FLOAT16: "TYPE_FP16"}
SERVED = Path(__file__).with_name("triton_model.py")
"""What serves a model through the backend ``python``."""


@dataclass(frozen=True)
class Served:
    """A model in a repository.

    Attributes
    ----------
    folder
        Of the model; its name is what clients ask for.
    version
        Number that Triton knows it by, which comes from its checksums.
    card
        Of the model.
    """

    folder: Path
    version: int
    card: ModelCard


def triton_from_onnx(
    model: Path,
    repository: Path,
    *,
    backend: str = "onnx",
    name: str | None = None,
    plan: Path | None = None,
    device: str = "CPU",
    threads: int = 0,
) -> Served:
    """Write a model into a repository; it appears whole, or not at all.

    Parameters
    ----------
    model
        ``.onnx`` with a card.
    repository
        Folder of models; made where there is none. A model of the same name is replaced.
    backend
        ``"onnx"``, ``"tensorrt"`` or ``"python"`` (OpenVINO, on the CPU or an Intel GPU).
    name
        What clients ask for; default: the name of the file.
    plan
        Of ``"tensorrt"``: what 'refocus-export tensorrt' made of the same model, for the server's
        GPU and its version of TensorRT.
    device, threads
        Of ``"python"``: ``"CPU"`` or ``"GPU"``, and how many threads; 0 for as many as there are.

    Raises
    ------
    RefocusError
        The model or plan cannot be read, they do not belong together, or nothing can be written.
    """
    proto, card = read_model(model)
    called = model.stem if name is None else name
    if not re.fullmatch(r"[^\W_][\w.-]*", called):
        raise RefocusError(
            f"--name {called}: give letters, digits, dots and dashes, a letter or a digit first"
        )
    told = signature(proto, card)
    version = version_number(told)
    shape = [-1, -1, -1]
    content, file = _bytes_of(model), "model.onnx"
    told["precision"] = precision(proto).replace("fp32", "f32")
    if backend == "tensorrt":
        if plan is None:
            raise RefocusError(
                "--backend tensorrt needs --plan FILE, from 'refocus-export tensorrt'"
            )
        content, shape, proto = _plan(plan, proto, card, model)
        file, told["precision"] = "model.plan", "fp16"
    elif plan is not None:
        raise RefocusError(f"--plan {plan} needs --backend tensorrt; leave it out")
    if backend == "python":
        told |= {"device": device, "threads": str(threads)}
        told["file-sha256"] = hashlib.sha256(content).hexdigest()
    files = {f"{version}/{file}": content}
    if backend == "python":
        files[f"{version}/model.py"] = SERVED.read_bytes()
    dims = [shape[0], card.inputs, *shape[1:]]
    config = configuration(
        proto, name=called, backend=backend, dims=dims, version=version, told=told
    )
    files["config.pbtxt"] = config.encode()
    _write(repository, called, files)
    return Served(repository / called, version, card)


def configuration(
    proto: onnx.ModelProto,
    *,
    name: str,
    backend: str,
    dims: list[int],
    version: int,
    told: dict[str, str],
) -> str:
    """Give a model's ``config.pbtxt``."""
    (frames,) = proto.graph.input
    lines = [
        f"name: {_quoted(name)}",
        f"backend: {_quoted(BACKENDS[backend])}",
        "max_batch_size: 0",
        f"version_policy {{ specific {{ versions: [ {version} ] }} }}",
        _tensor("input", frames, dims),
        *(_tensor("output", output) for output in proto.graph.output),
    ]
    if backend == "tensorrt":
        lines.append('default_model_filename: "model.plan"')
    kind = "KIND_CPU" if backend == "python" else "KIND_GPU"
    lines.append(f"instance_group [ {{ kind: {kind} count: 1 }} ]")
    lines += [
        f"parameters {{ key: {_quoted(key)} value {{ string_value: {_quoted(value)} }} }}"
        for key, value in sorted(told.items())
    ]
    return "\n".join(lines) + "\n"


def _tensor(kind: str, value: onnx.ValueInfoProto, dims: list[int] | None = None) -> str:
    tensor = value.type.tensor_type
    sizes = dims or [d.dim_value if d.HasField("dim_value") else -1 for d in tensor.shape.dim]
    words = f"name: {_quoted(value.name)} data_type: {TYPES[tensor.elem_type]} dims: {sizes}"
    return f"{kind} [ {{ {words} }} ]"


def _quoted(text: str) -> str:
    return json.dumps(text)


def _bytes_of(model: Path) -> bytes:
    """Give the ONNX of a file, or of the package that it is in."""
    packed = model.suffix.lower() == ".zip"
    return model_in_package(model) if packed else model.read_bytes()


def _plan(
    path: Path, proto: onnx.ModelProto, card: ModelCard, model: Path
) -> tuple[bytes, list[int], onnx.ModelProto]:
    """Read a plan of this model: its bytes, the sizes it serves, and the graph it was made of."""
    description = read_description(path)
    description.pop("plan_sha256", None)
    plan = read_plan(path, description)
    if description.get("runtime") != "tensorrt":
        raise RefocusError(
            f"{path}: a plan of {description.get('runtime')}, which Triton does not run; build it "
            "with 'refocus-export tensorrt --runtime tensorrt'"
        )
    half = proto if precision(proto) == "fp16" else half_precision(proto)
    if embed_card(half, card).sha256 != description.get("model_sha256"):
        raise RefocusError(
            f"{path}: a plan of another model than {model}; build it again with "
            "'refocus-export tensorrt'"
        )
    smallest, _, largest = description["profile"]
    if smallest[0] > 1:
        raise RefocusError(
            f"{path}: a plan for {smallest[0]} frames at a time; build it with --batch 1"
        )
    return plan, [a if a == b else -1 for a, b in zip(smallest, largest, strict=True)], half


def _write(repository: Path, name: str, files: dict[str, bytes]) -> None:
    try:
        repository.mkdir(parents=True, exist_ok=True)
        # hidden, so that a server that watches the repository does not see it half-written
        with tempfile.TemporaryDirectory(prefix=f".{name}-", dir=repository) as made:
            new, old = Path(made) / "new", Path(made) / "old"
            for path, content in files.items():
                (new / path).parent.mkdir(parents=True, exist_ok=True)
                (new / path).write_bytes(content)
            target = repository / name
            if target.exists():
                if not (target / "config.pbtxt").is_file():
                    raise RefocusError(f"{target}: there, and no model of Triton; remove it first")
                target.rename(old)
            try:
                new.rename(target)
            except BaseException:
                if old.exists():
                    old.rename(target)  # or it would go with the folder that it is in
                raise
    except OSError as error:
        raise RefocusError(
            f"{repository / name}: cannot be written ({reason_of(error)}); "
            "give another folder, or free some space"
        ) from error
