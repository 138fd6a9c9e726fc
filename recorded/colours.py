"""Pixels of several colours: each is a plane of its own, if the user says so."""

import tifffile

from refocus.configs import RefocusError

COLOURS = ("red", "green", "blue", "alpha")


def colours_of(page: tifffile.TiffPage, chosen: tuple[str, ...], where: str) -> tuple[str, ...]:
    """Name the colours of a page; one without a name where it is monochrome.

    Parameters
    ----------
    page
        Of a TIFF.
    chosen
        Channels that are to be refocused; none where nothing was said.
    where
        For the message.

    Raises
    ------
    RefocusError
        It has colours and none of them is chosen.
    """
    if page.samplesperpixel == 1:
        return ("",)
    there = COLOURS[: page.samplesperpixel]
    if page.ndim != 3 or page.samplesperpixel not in (3, 4):
        raise RefocusError(
            f"{where}: has shape {page.shape}, but planes (H, W) or (H, W, 3) are needed; "
            "save each channel as a plane of its own"
        )
    check_chosen(there, chosen, f"{where}: has shape {page.shape}")
    return there


def check_chosen(there: tuple[str, ...], chosen: tuple[str, ...], what: str) -> None:
    """Refuse colours none of which is chosen, by a RefocusError.

    Parameters
    ----------
    there
        Names of the colours.
    chosen
        Channels that are to be refocused.
    what
        Begins the message: which file, and what it holds.
    """
    if not set(chosen) & set(there):
        raise RefocusError(
            f"{what}: colours, and a model is for one channel of light; to refocus them one by "
            "one, name those that you want: --channel red=auto --channel green=auto"
        )
