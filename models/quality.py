"""Whether int8 kept what fp32 said: cosine distances, and the neighbours each text finds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from models.errors import ModelError
from models.ports import Embedder, Vectors

NEIGHBOURS = 10
MOST_DISTANCE = 2e-2
LEAST_OVERLAP = 0.8


@dataclass(frozen=True, slots=True)
class Agreement:
    """How near two engines are on the same texts.

    Attributes
    ----------
    texts : int
        Texts compared.
    distance_p50, distance_max : float
        Cosine distance (0 to 2) between the two vectors of a text.
    overlap : float
        Share (0 to 1) of each text's nearest others that both engines name, averaged; ten, or all if there are fewer.
    """

    texts: int
    distance_p50: float
    distance_max: float
    overlap: float


def compare(reference: Embedder, other: Embedder, texts: Sequence[str]) -> Agreement:
    """Embed the same texts with both.

    Parameters
    ----------
    reference, other : Embedder
        E.g. the fp32 and the int8 graph of one checkpoint.
    texts : sequence of str
        More than ten, different ones, or the neighbours say nothing.

    Returns
    -------
    Agreement
        Figures.

    Raises
    ------
    ModelError
        If there are too few texts.
    """
    distinct = list(dict.fromkeys(texts))
    if len(distinct) <= NEIGHBOURS + 1:
        raise ModelError(
            f"{len(distinct)} different texts are too few to compare neighbours.",
            cure=f"Give a file of more than {NEIGHBOURS + 1} lines.",
        )
    a, b = reference.embed_passages(distinct), other.embed_passages(distinct)
    distances = 1 - np.sum(a * b, axis=1)
    shared = [len(x & y) / NEIGHBOURS for x, y in zip(_nearest(a), _nearest(b), strict=True)]
    return Agreement(len(distinct), float(np.median(distances)), float(distances.max()), float(np.mean(shared)))


def check(found: Agreement, *, most_distance: float = MOST_DISTANCE, least_overlap: float = LEAST_OVERLAP) -> None:
    """Refuse an engine that has moved too far.

    Parameters
    ----------
    found : Agreement
        Figures of `compare`.
    most_distance : float, optional
        Largest cosine distance allowed for any text.
    least_overlap : float, optional
        Smallest share of common neighbours allowed.

    Raises
    ------
    ModelError
        If either is passed.
    """
    # written so that a figure that is no number is refused too
    if not (found.distance_max <= most_distance and found.overlap >= least_overlap):
        raise ModelError(
            f"int8 is too far from fp32: cosine distance up to {found.distance_max:.1e} (at most {most_distance:g}), "
            f"{found.overlap:.0%} of the neighbours in common (at least {least_overlap:.0%}).",
            cure="Serve this model in fp32, or on a GPU.",
        )


def _nearest(rows: Vectors) -> list[set[int]]:
    scores = rows @ rows.T
    np.fill_diagonal(scores, -np.inf)
    return [set(found) for found in np.argpartition(-scores, NEIGHBOURS - 1, axis=1)[:, :NEIGHBOURS].tolist()]
