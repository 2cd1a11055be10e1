"""A feed (RSS 2.0 or Atom) of a Telegram channel as posts: items that link to its messages. Pure."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from html.parser import HTMLParser

from appliance.errors import BadInput
from appliance.links import parse_link
from appliance.schema import Channel, Post

ATOM = "{http://www.w3.org/2005/Atom}"
CONTENT = "{http://purl.org/rss/1.0/modules/content/}encoded"
_DECLARES = re.compile(rb"<!\s*(?:DOCTYPE|ENTITY)", re.IGNORECASE)
_LINES = frozenset("br p div li blockquote tr".split())


def read_feed(document: bytes, channel: Channel) -> list[Post]:
    """Read a feed.

    Parameters
    ----------
    document : bytes
        XML.
    channel : Channel
        Items that link to a message of another one are left out, as are those that link to none.

    Returns
    -------
    list of Post
        In the feed's order.

    Raises
    ------
    BadInput
        It is no feed, or declares a document type or entities, which feeds have no use for.
    """
    if _DECLARES.search(document):
        raise BadInput("The feed declares a document type.", cure="Take a plain RSS or Atom feed.")
    try:
        root = ET.fromstring(document)  # noqa: S314 - see above
    except (ET.ParseError, ValueError) as error:
        raise BadInput("This is no feed.", cure="Give the address of an RSS or Atom feed.") from error
    items = [*root.iter("item"), *root.iter(f"{ATOM}entry")]
    return [post for item in items if (post := _post(item, channel)) is not None]


def _post(item: ET.Element, channel: Channel) -> Post | None:
    parsed = next((found for link in _links(item) if (found := parse_link(link)) and _is_of(found[0], channel)), None)
    date = _date(_first(item, "pubDate", f"{ATOM}published", f"{ATOM}updated"))
    if parsed is None or date is None:
        return None
    words, links = _words(_first(item, CONTENT, "description", f"{ATOM}content", f"{ATOM}summary"))
    title = " ".join(_words(_first(item, "title", f"{ATOM}title"))[0].split())
    bare = title.rstrip("….")
    text = words if not bare or " ".join(words.split()).startswith(bare) else f"{title}\n{words}".strip()
    return Post(
        channel_id=channel.id,
        message_id=parsed[1],
        date=date,
        text=text,
        author=channel.title,
        author_id=f"channel{channel.id}",
        links=tuple(dict.fromkeys(links)),
    )


def _is_of(name: str | int, channel: Channel) -> bool:
    return name == channel.id or (isinstance(name, str) and name.lower() == (channel.username or "").lower())


def _links(item: ET.Element) -> list[str]:
    found = [item.findtext("link") or "", item.findtext("guid") or "", item.findtext(f"{ATOM}id") or ""]
    return found + [link.get("href", "") for link in item.findall(f"{ATOM}link")]


def _first(item: ET.Element, *names: str) -> str:
    return next((text for name in names if (text := item.findtext(name))), "")


def _date(written: str) -> datetime | None:
    try:
        found = datetime.fromisoformat(written) if written[:4].isdigit() else parsedate_to_datetime(written)
    except (ValueError, TypeError):
        return None
    return found.replace(tzinfo=found.tzinfo or UTC).astimezone(UTC)


def _words(markup: str) -> tuple[str, list[str]]:
    """Return the text of a piece of HTML, and where its links lead."""
    reader = _Words()
    reader.feed(markup)
    reader.close()
    return re.sub(r"\n{3,}", "\n\n", "".join(reader.text)).strip(), reader.links


class _Words(HTMLParser):
    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.text: list[str] = []
        self.links: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag in _LINES:
            self.text.append("\n")
        href = dict(attrs).get("href")
        if tag == "a" and href:
            self.links.append(href)

    def handle_data(self, data: str) -> None:
        self.text.append(data)
