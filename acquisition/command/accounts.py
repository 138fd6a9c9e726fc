"""Whether a run left all that it should have: one line where it did not."""

from collections.abc import Mapping, Sequence
from typing import Any

from refocus.acquisition.pipeline.on_disk import not_on_disk
from refocus.acquisition.pipeline.plan import Short, first_of
from refocus.acquisition.pipeline.stats import Stats
from refocus.configs import Incomplete


def settle(
    stats: Stats, plan: Mapping[str, Any] | None, problems: Mapping[str, int]
) -> Incomplete | None:
    """Compare what a run left with what it should have.

    Parameters
    ----------
    stats
        Its final counts.
    plan
        What was planned against what came; None where nobody knows.
    problems
        What went wrong, each kind with its count.

    Returns
    -------
    Incomplete or None
        Says in one line what is missing, where, and what to do.
    """
    told = [*_not_captured(plan), *_not_published(stats, problems), *not_on_disk(stats.saved)]
    return Incomplete("; ".join(told)) if told else None


def _not_captured(plan: Mapping[str, Any] | None) -> list[str]:
    if not plan or not plan["missing"]:
        return []
    short = first_of([Short(**one) for one in plan["short"]])
    return [
        f"{plan['missing']} of {plan['planned']} planned frames never came"
        f" ({short}): look after the camera and its connection, and "
        "acquire them again"
    ]


def _not_published(stats: Stats, problems: Mapping[str, int]) -> list[str]:
    why = max(problems, key=lambda text: problems[text], default="")
    if stats.failed:
        told = f"{stats.failed} of {stats.received} frames failed"
        return [f"{told}: {why}" if why else told]
    if stats.received and not stats.published:
        kept = f": {why}" if why else "; choose a longer --queue, or the policy every"
        return [f"none of {stats.received} frames was published{kept}"]
    return []


def why_nothing(stats: Stats, passed: Sequence[str]) -> str:
    """Say why nothing was refocused; empty where something was.

    Parameters
    ----------
    stats
        The final counts of the run.
    passed
        Why frames of it were handed on as captured.
    """
    if stats.published:
        return ""
    if stats.received:
        return "the line below says why"
    return "; ".join(passed) if stats.skipped else "no frame came"
