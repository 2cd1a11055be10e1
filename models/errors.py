"""Errors of the machine room; the appliance decides what members see of them.

::

    ModelError              anything raised on purpose here; `.cure` tells what to do
    ├── CardError           the operator: a card that is unknown or does not hold together
    ├── WeightsError        the operator: weights missing, damaged or in a format we refuse
    ├── CannotRun           the operator: this machine lacks what an engine needs
    ├── DoesNotFit          the operator: the chosen models do not fit the memory
    ├── Overloaded          the caller: too much waits already; come back after `.retry_after_s`
    ├── EmbedderDown        the flow that asked: the embedding server gave no vectors
    └── GeneratorDown       the flow that asked: no (whole) answer came; `.reason` says why
"""

from __future__ import annotations

from typing import Literal

DownReason = Literal["unreachable", "slow", "overloaded", "refused", "broken"]


class ModelError(Exception):
    """An error raised on purpose.

    Parameters
    ----------
    message : str
        What happened, without prompts, answers or secrets.
    cure : str, optional
        What to do about it.
    """

    def __init__(self, message: str, *, cure: str = "") -> None:
        super().__init__(message)
        self.cure = cure

    def __str__(self) -> str:
        """Message, then the cure."""
        message = super().__str__()
        return f"{message} {self.cure}" if self.cure else message


class CardError(ModelError):
    """A card that is unknown or does not hold together."""


class WeightsError(ModelError):
    """Weights missing, damaged or in a format we refuse."""


class CannotRun(ModelError):
    """The machine lacks what an engine needs."""


class DoesNotFit(ModelError):
    """The chosen models do not fit the memory."""


class Overloaded(ModelError):
    """Too much waits already; `retry_after_s` says when to come back."""

    def __init__(self, message: str, *, retry_after_s: float, cure: str = "") -> None:
        super().__init__(message, cure=cure)
        self.retry_after_s = retry_after_s


class EmbedderDown(ModelError):
    """The embedding server gave no vectors."""


class GeneratorDown(ModelError):
    """The language model gave no answer, or not a whole one.

    Attributes
    ----------
    reason : {'unreachable', 'slow', 'overloaded', 'refused', 'broken'}
        No connection; a timeout passed; HTTP 429 or 503; the server refused the request (wrong model, prompt too
        long, bad key); it failed or stopped in the middle, or spoke garbage.
    retry_after_s : float or None
        When to come back, where the server said so.
    """

    def __init__(self, message: str, *, reason: DownReason, retry_after_s: float | None = None, cure: str = "") -> None:
        super().__init__(message, cure=cure)
        self.reason: DownReason = reason
        self.retry_after_s = retry_after_s
