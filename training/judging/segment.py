"""Nuclei, as a biologist counts them: one stated segmenter for every image that is compared.

Otsu's threshold of the smoothed image, and a watershed of the distance map (scikit-image), both
with fixed settings.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from skimage.feature import peak_local_max
from skimage.filters import threshold_otsu
from skimage.segmentation import watershed

SEGMENTER = "Gaussian 1 px, Otsu, watershed of the distance map smoothed by 2 px, 40 px or larger"
SMALLEST = 40
"""Pixels of the smallest nucleus."""
APART = 6
"""Pixels between the centres of two nuclei, at least."""

Labels = NDArray[np.int32]


@dataclass(frozen=True)
class Nuclei:
    """How the nuclei of an image compare with those of the in-focus image; sums over images.

    Attributes
    ----------
    reference, found
        How many there are, and how many were found.
    matched
        How many of them overlap with IoU above 0.5.
    invented
        How many were found where the in-focus image has nothing at all above its threshold.
    area_error, intensity_error
        Sums over the matched of the relative differences, unsigned.
    """

    reference: int = 0
    found: int = 0
    matched: int = 0
    invented: int = 0
    area_error: float = 0.0
    intensity_error: float = 0.0

    def __add__(self, other: "Nuclei") -> "Nuclei":
        names = self.__dataclass_fields__
        return Nuclei(**{n: getattr(self, n) + getattr(other, n) for n in names})

    @property
    def f1(self) -> float:
        """F1 at IoU 0.5; 1 where there is nothing to find and nothing was found."""
        total = self.reference + self.found
        return 2 * self.matched / total if total else 1.0

    def describe(self) -> dict[str, float]:
        """Give the figures of a table."""
        matched = max(1, self.matched)
        return {
            "f1": self.f1,
            "count": self.found,
            "count_in_focus": self.reference,
            "invented": self.invented,
            "area_error": self.area_error / matched,
            "intensity_error": self.intensity_error / matched,
        }


def segment(frame: NDArray[Any]) -> Labels:
    """Label the nuclei of a frame, ``(H, W)``, bright on dark; 0 is background."""
    smooth = ndimage.gaussian_filter(frame.astype(np.float32), 1.0)
    if smooth.min() == smooth.max():
        return np.zeros(frame.shape, np.int32)
    mask = ndimage.binary_fill_holes(smooth > threshold_otsu(smooth))
    inside = ndimage.gaussian_filter(ndimage.distance_transform_edt(mask), 2.0)
    parts, _ = ndimage.label(mask)
    tops = peak_local_max(inside, min_distance=APART, labels=parts, exclude_border=False)
    seeds = np.zeros(frame.shape, np.int32)
    seeds[tuple(tops.T)] = np.arange(1, len(tops) + 1)
    labels = watershed(-inside, seeds, mask=mask)
    sizes = np.bincount(labels.ravel())
    labels[(sizes < SMALLEST)[labels]] = 0
    return np.asarray(labels, dtype=np.int32)


def compare(
    reference: NDArray[Any], frame: NDArray[Any], reference_labels: Labels | None = None
) -> Nuclei:
    """Compare the nuclei of a frame with those of its in-focus partner.

    Parameters
    ----------
    reference, frame
        ``(H, W)``, in the same counts.
    reference_labels
        The reference's, where they are known already.
    """
    truth = segment(reference) if reference_labels is None else reference_labels
    found = segment(frame)
    overlap = _overlap(truth, found)
    sizes_truth, sizes_found = overlap.sum(1), overlap.sum(0)
    union = sizes_truth[:, None] + sizes_found[None] - overlap
    matches = overlap[1:, 1:] / np.maximum(union[1:, 1:], 1) > 0.5
    rows, cols = np.nonzero(matches)
    light_truth, light_found = _light(reference, truth), _light(frame, found)
    area = np.abs(sizes_found[1:][cols] / np.maximum(sizes_truth[1:][rows], 1) - 1)
    light = np.abs(light_found[cols] / np.maximum(light_truth[rows], 1e-9) - 1)
    there = sizes_found[1:] > 0
    return Nuclei(
        reference=int((sizes_truth[1:] > 0).sum()),
        found=int(there.sum()),
        matched=len(rows),
        invented=int((there & (overlap[0, 1:] == sizes_found[1:])).sum()),
        area_error=float(area.sum()),
        intensity_error=float(light.sum()),
    )


def _overlap(truth: Labels, found: Labels) -> NDArray[np.int64]:
    """Count the pixels that each pair of labels shares, background included."""
    width = int(found.max()) + 1
    joint = truth.astype(np.int64) * width + found
    counts = np.bincount(joint.ravel(), minlength=(int(truth.max()) + 1) * width)
    return counts.reshape(-1, width)


def _light(frame: NDArray[Any], labels: Labels) -> NDArray[np.float64]:
    """Integrate each nucleus over the median of the background."""
    pixels = frame.astype(np.float64)
    outside = pixels[labels == 0]
    background = float(np.median(outside)) if outside.size else 0.0
    return np.asarray(
        ndimage.sum_labels(pixels - background, labels, np.arange(1, int(labels.max()) + 1))
    )
