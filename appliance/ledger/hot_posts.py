"""Posts kept in memory in front of the ledger: a database read costs milliseconds, this costs microseconds."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterable, Sequence

from appliance.schema import Post, PostKey


class HotPosts:
    """Recently saved or read posts, the least recently used dropped first; thread-safe.

    A reader takes `mark` before it asks the database and hands it to `keep`: when posts changed in between, nothing is
    kept, so that an older version never outlives a newer one.

    Parameters
    ----------
    max_chars : int
        Length of all texts together, in characters.
    """

    def __init__(self, max_chars: int) -> None:
        self._max_chars = max_chars
        self._chars = 0
        self._posts: OrderedDict[PostKey, Post] = OrderedDict()
        self._changes = 0
        self._guard = threading.Lock()

    def get(self, keys: Sequence[PostKey]) -> dict[PostKey, Post]:
        """Return those of the posts that are here.

        Parameters
        ----------
        keys : sequence of PostKey

        Returns
        -------
        dict of PostKey to Post
            In the order asked.
        """
        with self._guard:
            found = {key: self._posts[key] for key in keys if key in self._posts}
            for key in found:
                self._posts.move_to_end(key)
        return found

    def mark(self) -> int:
        """Return a mark of this moment, for `keep`."""
        return self._changes

    def keep(self, posts: Iterable[Post], mark: int) -> None:
        """Keep posts just read from the database, unless any changed since ``mark``.

        Parameters
        ----------
        posts : iterable of Post
        mark : int
            From `mark`, taken before reading.
        """
        with self._guard:
            if mark == self._changes:
                for item in posts:
                    self._put(item)

    def replace(self, posts: Iterable[Post]) -> None:
        """Keep posts just saved.

        Parameters
        ----------
        posts : iterable of Post
        """
        with self._guard:
            self._changes += 1
            for item in posts:
                self._put(item)

    def remove(self, keys: Iterable[PostKey]) -> None:
        """Forget posts.

        Parameters
        ----------
        keys : iterable of PostKey
        """
        with self._guard:
            self._changes += 1
            for key in keys:
                self._drop(key)

    def _put(self, item: Post) -> None:
        self._drop(item.key)
        self._posts[item.key] = item
        self._chars += len(item.text)
        while self._chars > self._max_chars:
            self._drop(next(iter(self._posts)))

    def _drop(self, key: PostKey) -> None:
        dropped = self._posts.pop(key, None)
        if dropped is not None:
            self._chars -= len(dropped.text)
