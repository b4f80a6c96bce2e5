r"""The address of a tracking server: what is shown of it, and its secrets.

Everything that prints or writes an address shows `Address.public`. It has no user, no password and no query. An address
is read by a strict grammar, and what the grammar does not cover is not shown at all: a character that should have been
escaped may lie in a password, whose end is then unknown.

>>> parse("http://me:se%2Fcret@example.org:5000").public
'http://example.org:5000'
>>> parse("http://me:se/cret@example.org:5000").public
'an address that cannot be read'
"""

import base64
import html
import json
import re
from dataclasses import dataclass, field
from urllib.parse import quote, quote_plus, unquote, unquote_plus

UNREADABLE = "an address that cannot be read"

_ESCAPE = r"%(?!00)[0-9A-Fa-f]{2}"
_CHARACTER = rf"[A-Za-z0-9._~!$&'()*+,;=-]|{_ESCAPE}"
_QUERY = r"(?:\?(?P<query>[\w.~!$&'()*+,;=:%/?-]*))?"
# Every `@` but the one after user and password has to be escaped.
_URL = re.compile(
    rf"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]*)://"
    rf"(?:(?P<user>(?:{_CHARACTER})*)(?::(?P<password>(?::|{_CHARACTER})*))?@)?"
    r"(?P<host>[\w.-]*|\[[0-9A-Fa-f:.]+\])(?P<port>:[0-9]{1,5})?"
    r"(?P<path>(?:/[\w.~!$&'()*+,;=:%/-]*)?)"
    rf"{_QUERY}"
)
# Neither an unescaped user and password nor a second line.
_IN_PATH = r"[^?\\\x00-\x1f\x7f-\x9f\u2028\u2029]"
_FILE = re.compile(rf"(?!.*:.*:.*@)(?P<public>(?:sqlite:///|file:///|file:/(?!/)){_IN_PATH}*){_QUERY}")
_PATH = re.compile(rf"(?!.*:)(?!//)(?:(?:/|\.\.?/|~){_IN_PATH}*|(?!.*@){_IN_PATH}+)")
# A profile of Databricks, or a scope and the prefix of its keys.
_DATABRICKS = re.compile(r"(?P<public>databricks(?:-uc)?://[\w.-]+)(?::(?P<password>[\w.-]+))?")
#: Keys of a database's query that say nothing secret.
_HARMLESS = ("charset", "connect_timeout", "driver", "host", "mode", "port", "sslmode", "timeout", "uri")


@dataclass(frozen=True)
class Address:
    """An address, taken apart.

    Args:
        public: what may be shown; `UNREADABLE` where the address has no clear parts.
        user, password: without escapes, or None.
        secrets: what must not be shown of it otherwise, as it is written there.
    """

    public: str
    user: str | None = field(default=None, repr=False)
    password: str | None = field(default=None, repr=False)
    secrets: tuple[str, ...] = field(default=(), repr=False)

    @property
    def is_readable(self) -> bool:
        """Whether the address has clear parts; one without must not be given to anything that could print it."""
        return self.public != UNREADABLE


def parse(text: str) -> Address:
    """Take an address apart: http, https, a database, Databricks, or files."""
    if _PATH.fullmatch(text):
        return Address(text)
    if found := _FILE.fullmatch(text):
        return Address(found["public"], secrets=_secrets(found["query"]))
    if found := _DATABRICKS.fullmatch(text):
        secret = found["password"]
        return Address(found["public"], secrets=(secret,) if secret else ())
    found = _URL.fullmatch(text)
    # Where no host is named, a user of a web server may have been taken for a part of the path.
    is_web = found is not None and found["scheme"].lower() in ("http", "https")
    if found is None or (is_web and not found["host"]):
        return Address(UNREADABLE)
    user, password = (None if part is None else unquote(part) for part in (found["user"], found["password"]))
    public = f"{found['scheme']}://{found['host']}{found['port'] or ''}{found['path']}"
    # A web server's user without a password is a token.
    written = found["user"] if is_web and not password else found["password"]
    return Address(public, user, password, ((written,) if written else ()) + _secrets(found["query"]))


def _secrets(query: str | None) -> tuple[str, ...]:
    """Return what a query says but for what is harmless."""
    pairs = [pair.partition("=") for pair in re.split("[&;]", query or "")]
    return tuple(value or key for key, _, value in pairs if key and key not in _HARMLESS)


def hide(text: str, address: Address, *others: str) -> str:
    """Return a text, such as another program's error, without the user and secrets of an address and `others`.

    Users and passwords of any other address in the text are removed too.
    """
    secrets = {spelling for secret in (*address.secrets, *others) for spelling in _spellings(secret)}
    if address.user and address.password is not None:
        secrets |= _spellings(_basic(address.user, address.password))
    for secret in sorted(filter(None, secrets), key=len, reverse=True):
        text = re.sub(re.escape(secret) if len(secret) > 3 else _apart(secret), "***", text)
    for user in sorted(filter(None, _spellings(address.user or "")), key=len, reverse=True):
        text = re.sub(_apart(user), "***", text)
    text = re.sub(r"(?<!/)//(?!/)\S*@", "//", text)  # three slashes begin a path
    return re.sub(r"(?i)(password|passwd|pwd|token)=[^&\s]*", r"\1=***", text)


def _apart(secret: str) -> str:
    """Return the pattern of a short secret, or of a user: it may be a part of many a word."""
    before = r"(?:(?<![A-Za-z0-9])|(?<=%[0-9A-Fa-f]{2})|(?<=\\[nrt]))"
    return rf"{before}{re.escape(secret)}(?![A-Za-z0-9])"


def _basic(user: str, password: str) -> str:
    """Return user and password as a web server gets them."""
    return base64.b64encode(f"{user}:{password}".encode()).decode()


def _spellings(secret: str) -> set[str]:
    """Return a secret as it may be spelled in a message."""
    plain = {secret, unquote(secret), unquote_plus(secret)}
    quoted = {
        spelled(text)
        for text in plain
        for spelled in (quote, quote_plus, _quote_all, html.escape, lambda text: repr(text)[1:-1], _json)
    }
    lower = {re.sub("%[0-9A-F]{2}", lambda found: found[0].lower(), text) for text in quoted}
    twice = {text.replace("\\", "\\\\") for text in quoted}  # an error that quotes another error
    return plain | quoted | lower | twice


def _quote_all(text: str) -> str:
    return quote(text, safe="")


def _json(text: str) -> str:
    return json.dumps(text)[1:-1]
