"""Read the stream of a run, on the same computer or another: no microscope, no engine needed.

    python examples/subscribe_from_another_computer.py                       # starts a demo to read
    python examples/subscribe_from_another_computer.py tcp://127.0.0.1:5556  # yours

Between computers the frames need keys: make them with `refocus-live keys keys/`, publish with
`--publish tcp://0.0.0.0:5556 --keys keys/publisher`, take keys/reader to the other computer.

    python examples/subscribe_from_another_computer.py tcp://microscope:5556 --keys keys/reader
"""

import argparse
import contextlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from refocus.acquisition import subscribe

PORT = 5557


@contextlib.contextmanager
def demo(frames: int) -> Iterator[str]:
    """Publish the simulated microscope from another process, and give its endpoint."""
    endpoint = f"tcp://127.0.0.1:{PORT}"
    command = [
        *(sys.executable, "-c", "from refocus.acquisition.command.cli import main; main()"),
        *("run", "--demo", "--size", "256", "--frames", str(frames)),
        *("--publish", endpoint, "--wait-subscribers", "1"),
    ]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        yield endpoint
        process.wait()
    finally:
        process.terminate()


def main() -> None:
    """Print what comes, until the run is over."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("endpoint", nargs="?", help="where frames are published")
    parser.add_argument("--keys", type=Path, help="the reader's folder of keys")
    parser.add_argument("--frames", type=int, default=8, help="of the demo")
    options = parser.parse_args()
    with contextlib.ExitStack() as stack:
        endpoint = options.endpoint or stack.enter_context(demo(options.frames))
        with subscribe(endpoint, timeout=120.0, keys=options.keys) as frames:
            for frame in frames:
                header = frame.header
                print(
                    f"{header.number:5d}  {header.channel:8s} {frame.pixels.shape} "
                    f"mean {frame.pixels.mean():.0f}, {header.times_ms.published:.0f} ms old"
                    + (f", {frame.lost} lost before" if frame.lost else "")
                )
            print(f"the run is over: {frames.received} received, {frames.lost} lost on the way")


if __name__ == "__main__":
    main()
