"""A Triton server of our own, for tests and measurements: that of nvidia-pytriton, without a GPU.

'make triton-server' puts it into ``build/triton``. It has the backend ``python`` alone.
"""

import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import sysconfig
import tempfile
import time
from pathlib import Path
from typing import Any, Self

from refocus.configs import RefocusError
from refocus.engine.triton.shared import FOLDER

WHERE = Path("build/triton")


def missing() -> str:
    """Say why no server can be started here; an empty string where one can."""
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    if not (_files() / "bin" / "tritonserver").is_file():
        return f"no Triton server in {WHERE}: make triton-server"
    if not (_files() / "python_backend_stubs" / version).is_dir():
        return f"this Triton server has no backend for Python {version}"
    if not sysconfig.get_config_var("Py_ENABLE_SHARED"):
        return "the backend needs a Python that is built with --enable-shared"
    return ""


def _files() -> Path:
    return WHERE.absolute() / "pytriton" / "tritonserver"


class TritonServer:
    """Serves a model repository on this host; a context manager, ready once it is entered.

    Parameters
    ----------
    repository
        Written by 'refocus-export triton --backend python'.
    options
        More of tritonserver's own.
    port
        To answer on; 0 for any that is free.

    Raises
    ------
    RefocusError
        It cannot be started here, or ends at once.
    """

    def __init__(self, repository: Path, *options: str, port: int = 0) -> None:
        if why := missing():
            raise RefocusError(why)
        self._repository, self._options = repository, options
        self.port = port or _free_port()
        self._shared = f"refocus-server-{secrets.token_hex(6)}"
        self._folder = tempfile.TemporaryDirectory(prefix="refocus-triton-")
        self.log = Path(self._folder.name) / "log"
        backend = Path(self._folder.name) / "python"
        stub = f"python_backend_stubs/{sys.version_info.major}.{sys.version_info.minor}"
        shutil.copytree(_files() / "backends" / "python", backend)
        shutil.copy(_files() / stub / "triton_python_backend_stub", backend)
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def address(self) -> str:
        """Of the engine."""
        return f"grpc://127.0.0.1:{self.port}"

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: Any) -> None:
        self.kill()
        self._folder.cleanup()

    def start(self) -> None:
        """Start it, and wait until it serves what it can."""
        libraries = [WHERE.absolute() / "nvidia_pytriton.libs", sysconfig.get_config_var("LIBDIR")]
        environment = os.environ | {
            "LD_LIBRARY_PATH": os.pathsep.join(map(str, libraries)),
            "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
        }
        command = [
            str(_files() / "bin" / "tritonserver"),
            f"--model-repository={self._repository.absolute()}",
            f"--backend-directory={self._folder.name}",
            f"--backend-config=python,shm-region-prefix-name={self._shared}",
            "--backend-config=python,shm-growth-byte-size=67108864",
            f"--grpc-port={self.port}",
            "--grpc-address=127.0.0.1",
            "--allow-http=false",
            "--allow-metrics=false",
            "--exit-on-error=false",
            *self._options,
        ]
        with self.log.open("wb") as log:
            self._process = subprocess.Popen(
                command, env=environment, stdout=log, stderr=log, start_new_session=True
            )
        while not self._ready():
            if self._process.poll() is not None:
                raise RefocusError(f"tritonserver ended: {self._last_line()}")
            time.sleep(0.1)

    def kill(self) -> None:
        """End it as a loss of power would."""
        if self._process is not None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
            self._process = None
        for left in FOLDER.glob(f"{self._shared}*"):
            left.unlink()

    def _ready(self) -> bool:
        """Tell whether it has logged that it answers: by then its models are loaded."""
        return "Started GRPCInferenceService" in self._log()

    def _last_line(self) -> str:
        lines = reversed(self._log().splitlines())
        return next((line for line in lines if line.strip()), "no word")

    def _log(self) -> str:
        return self.log.read_text(encoding="utf-8", errors="replace")


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port
