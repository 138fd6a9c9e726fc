"""What is said of a frame and of the stream it came from, in a line each."""

from typing import Any

from refocus.stream.messages import FrameHeader

PHASES = {
    "connecting": "connecting to {endpoint}",
    "nobody": "nobody publishes at {endpoint}",
    "refused": "{endpoint} wants other keys",
    "foreign": "not understood: {fault}",
    "idle": "{endpoint}: no run yet",
    "running": "running",
    "lost": "the stream is lost",
    "ended": "the run is over",
}
"""By the phase of :class:`refocus.view.status.Status`."""


def of_frame(header: FrameHeader) -> str:
    """Say what was judged of a frame: verdict, distance from focus, score."""
    parts = [f"frame {header.frame}", header.channel]
    parts.append(header.trust.verdict if header.trust else "")
    if not header.refocused:
        parts.append("handed on as captured")
    if (focus := header.focus) is not None:
        parts.append(f"{focus.distance_um:.1f} ± {focus.sigma_um:.1f} µm from focus")
    if header.trust is not None and header.trust.score is not None:
        parts.append(f"score {header.trust.score:.2f}")
    parts.append(f"{header.times_ms.published:.0f} ms after its capture")
    return ", ".join(part for part in parts if part)


def of_stream(state: dict[str, Any]) -> str:
    """Say how a stream stands, what waits and what was lost.

    Parameters
    ----------
    state
        As :meth:`refocus.view.listener.Listener.state` gives it.
    """
    said = [PHASES.get(state["phase"], state["phase"]).format(**state)]
    if (stats := state.get("stats")) is not None:
        said.append(f"{stats['queued']} of {stats['capacity']} waiting")
        counts = stats["frames"]
        said += [
            f"{counts[key]} {key}" for key in ("dropped", "deferred", "failed") if counts.get(key)
        ]
    return ", ".join(said)


def of_engine(state: dict[str, Any]) -> str:
    """Say what refocuses the run, and instead of what; empty before the first."""
    run = state.get("run")
    parts = [run["engine"][key] for key in ("model", "name", "precision", "device")] if run else []
    said = " ".join(part for part in parts if part)
    return f"{said}, {state['fallback']}" if state.get("fallback") else said
