"""Localisation: does a map point at the object? For images whose masks are known."""

import pandas as pd
import torch

from attention.explain.checks import expect_relevance


def localisation(maps: torch.Tensor, masks: torch.Tensor) -> pd.DataFrame:
    """One row an image, three measures of a map against the object's mask, each from 0 to 1.

    maps: (N, H, W), at least 0. masks: bool (N, H, W), True on the object.

        pointing    1 if the map's highest pixel lies on the object (Zhang et al., ECCV 2016)
        energy      the share of the map's sum that lies on the object (Wang et al., CVPR
                    Workshops 2020)
        iou         overlap of the mask with as many of the map's highest pixels as it has
        area        the share of the image that the object takes: what a map of chance gets for
                    pointing and for energy

    Pixels of equal value share what is between them: a constant map gets the area, not luck.
    """
    expect_relevance(maps)
    if not isinstance(masks, torch.Tensor) or masks.shape != maps.shape or (
        masks.dtype.is_floating_point or ((masks != 0) & (masks != 1)).any()
    ):  # fmt: skip
        found = f"{masks.dtype} {tuple(masks.shape)}" if isinstance(masks, torch.Tensor) else masks
        raise ValueError(
            f"masks must be bool (or 0 and 1) {tuple(maps.shape)}, as the maps are, got {found}"
        )
    if (maps < 0).any():
        raise ValueError(f"maps must be at least 0, got {float(maps.min()):.3g}")
    maps, masks = maps.cpu().flatten(1).double(), masks.cpu().flatten(1).bool()
    size = masks.sum(1)
    if (size == 0).any():
        raise ValueError(f"masks must each hold an object; {int((size == 0).sum())} are empty")
    area = size / masks.shape[1]
    highest = maps == maps.amax(1, keepdim=True)
    pointing = (highest & masks).sum(1) / highest.sum(1)
    total = maps.sum(1)
    energy = ((maps * masks).sum(1) / total).where(total > 0, area)
    # the `size` highest pixels; those at the threshold each count for the share that fits in
    threshold = maps.sort(1, descending=True).values.gather(1, size[:, None] - 1)
    above, at = maps > threshold, maps == threshold
    share = (size - above.sum(1)) / at.sum(1)
    overlap = (above & masks).sum(1) + share * (at & masks).sum(1)
    columns = {
        "pointing": pointing,
        "energy": energy,
        "iou": overlap / (2 * size - overlap),
    }
    return pd.DataFrame({name: v.numpy() for name, v in {**columns, "area": area}.items()})
