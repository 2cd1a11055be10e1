"""The one error tree; each class says who sees it.

::

    PostFinderError            anything we raise on purpose; `.cure` tells what to do
    ├── StartupError           the operator, at start: bad configuration, CPU, folder, lock
    ├── BadInput               the person who sent it: empty or oversized question, bad date
    │   ├── UnknownChannel     the asker: no such channel among those they may see
    │   └── BadExport          the operator: a file that is not a Telegram export
    ├── NotAllowed             the asker: no right to do this
    ├── SlowDown               the asker: over a limit; `.retry_after_s`
    │   └── QuotaSpent         the asker: the plan's questions are asked
    ├── Paused                 the asker: those who keep order paused answering
    └── StoreError             the operator: ledger, index or journal cannot do its work
"""

from __future__ import annotations


class PostFinderError(Exception):
    """An error raised on purpose.

    Parameters
    ----------
    message : str
        What happened, for the person who will see it, without secrets or message text.
    cure : str, optional
        What to do about it.
    code : str, optional
        Key of the translated text shown to members (see ``appliance/texts.py``).
    """

    code = "error"

    def __init__(self, message: str, *, cure: str = "", code: str | None = None) -> None:
        super().__init__(message)
        self.cure = cure
        if code is not None:
            self.code = code

    def __str__(self) -> str:
        """Message, then the cure."""
        message = super().__str__()
        return f"{message} {self.cure}" if self.cure else message


class StartupError(PostFinderError):
    """Start-up refused; seen by the operator."""

    code = "startup"


class BadInput(PostFinderError):
    """Input that cannot be used; seen by the person who sent it."""

    code = "bad_input"


class UnknownChannel(BadInput):
    """No such channel among those the asker may see."""

    code = "unknown_channel"


class BadExport(BadInput):
    """A file that is not a readable Telegram export; seen by the operator."""

    code = "bad_export"


class NotAllowed(PostFinderError):
    """The asker has no right to do this."""

    code = "not_allowed"


class SlowDown(PostFinderError):
    """Over a limit; `retry_after_s` says when to come back."""

    code = "slow_down"

    def __init__(self, message: str, *, retry_after_s: float, cure: str = "", code: str | None = None) -> None:
        super().__init__(message, cure=cure, code=code)
        self.retry_after_s = retry_after_s


class QuotaSpent(SlowDown):
    """The questions of a day or a month are asked; `retry_after_s` says when new ones come."""

    code = "quota_day"


class Paused(PostFinderError):
    """Answering is paused for everyone; `word` is what those who keep order say of it, if they do."""

    code = "paused"

    def __init__(self, message: str, *, word: str = "") -> None:
        super().__init__(message)
        self.word = word


class StoreError(PostFinderError):
    """A store cannot do its work; seen by the operator."""

    code = "store"
