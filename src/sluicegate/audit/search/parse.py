"""Reads queries: ``verdict:refused host:*.example.com bytes_to_client>1MiB since:24h -rule:web``.

Pure. Terms stand side by side (all of them), or with ``or`` between them; ``not`` or ``-`` turns
one round, parentheses group. The invariant: what cannot be read is refused with its place, and
nothing is guessed.
"""

from __future__ import annotations

import datetime as dt
import ipaddress
import re
from dataclasses import dataclass, field
from typing import Final

from typing_extensions import override

from sluicegate.documents.suggestion import suggest
from sluicegate.errors import SluicegateError
from sluicegate.log_limits import (
    QUERY_BYTES_MAX,
    QUERY_DEPTH_MAX,
    QUERY_STARS_MAX,
    QUERY_TERMS_MAX,
    QUERY_VALUES_MAX,
)

from .fields import FIELDS, KINDS, Field, FieldType, find_field
from .query import (
    EVERYTHING,
    All,
    Any,
    Compare,
    Network,
    Not,
    Operator,
    Pattern,
    Query,
    Value,
    Words,
    in_lower_case,
)
from .words import words_of

__all__ = ["QueryRefused", "parse_query"]


class QueryRefused(SluicegateError):
    """A query that means nothing: where it went wrong, why, and the cure."""

    def __init__(self, text: str, position: int, cause: str, cure: str = "") -> None:
        super().__init__(text, position, cause, cure)
        self.text = text
        self.position = position
        #: Characters before the place.
        self.cause = cause
        self.cure = cure

    @override
    def __str__(self) -> str:
        """Show the place by a mark below it."""
        cure = f" ({self.cure})" if self.cure else ""
        if "\n" in self.text:
            return f"the query, at character {self.position + 1}: {self.cause}{cure}"
        return f"{self.text}\n{' ' * self.position}^ {self.cause}{cure}"


def parse_query(text: str, now: float, zone: dt.tzinfo = dt.UTC) -> Query:
    """Read a query.

    Args:
        text: At most ``QUERY_BYTES_MAX`` characters; empty: everything.
        now: What durations are counted back from, in seconds since the Unix epoch.
        zone: Of dates and times that name none.

    Raises:
        QueryRefused: It means nothing, or is larger than a bound.
    """
    if len(text) > QUERY_BYTES_MAX:
        raise QueryRefused("", 0, f"has {len(text)} characters, {QUERY_BYTES_MAX} may be")
    return _Parser(text, now, zone).read()


_QUOTED: Final = r'"(?:[^"\\]|\\.)*"'
_TOKEN: Final = re.compile(
    rf"""(?P<open>\() | (?P<close>\)) | (?P<minus>-(?=[^\s]))
    | (?P<name>[A-Za-z][A-Za-z0-9_]*(?:\.[A-Za-z0-9_-]+)?)\ ?(?P<operator>!=|>=|<=|[:=<>])\ ?
    | (?P<quoted>{_QUOTED}) | (?P<word>[^\s()"]+)""",
    re.VERBOSE | re.ASCII | re.DOTALL,
)
_VALUE: Final = re.compile(rf'(?P<quoted>{_QUOTED})|(?P<plain>[^\s(),"]+)', re.DOTALL)
_SPACE: Final = re.compile(r"\s*")
_ESCAPED: Final = re.compile(r"\\(.)", re.DOTALL)


@dataclass(slots=True)
class _Parser:
    """One reading of one text, from left to right."""

    text: str
    now: float
    zone: dt.tzinfo
    at: int = 0
    terms: int = 0
    depth: int = 0
    values: _Values = field(init=False)

    def __post_init__(self) -> None:
        self.values = _Values(self.now, self.zone)

    def read(self) -> Query:
        """Read all of it."""
        self.skip_space()
        if self.at == len(self.text):
            return EVERYTHING
        query = self.read_any()
        if self.at < len(self.text):
            raise self.refusal("there is no ( for it")
        return query

    # -- the grammar ---------------------------------------------------------------------------

    def read_any(self) -> Query:
        """Read parts with ``or`` between them."""
        parts = [self.read_all()]
        while self.take_keyword("or"):
            parts.append(self.read_all())
        return parts[0] if len(parts) == 1 else Any(tuple(parts))

    def read_all(self) -> Query:
        """Read parts that stand side by side, or with ``and`` between them."""
        parts = [self.read_one()]
        while self.take_keyword("and") or not self.is_at_end():
            parts.append(self.read_one())
        return parts[0] if len(parts) == 1 else All(tuple(parts))

    def is_at_end(self) -> bool:
        """Tell whether what stands side by side ends here."""
        rest = self.text[self.at : self.at + 1]
        return rest in {"", ")"} or self.keyword() == "or"

    def read_one(self) -> Query:
        """Read a term, what is in parentheses, or one of them turned round."""
        self.depth += 1
        if self.depth > QUERY_DEPTH_MAX:
            raise self.refusal(f"goes deeper than {QUERY_DEPTH_MAX}")
        try:
            return Not(self.read_one()) if self.take_keyword("not") else self.read_token()
        finally:
            self.depth -= 1

    def read_token(self) -> Query:
        """Read what begins with one token."""
        found = None if self.keyword() else _TOKEN.match(self.text, self.at)
        start = self.at
        if found is None:
            unread = self.text[self.at : self.at + 1]
            cause = "the quotation mark is not closed" if unread == '"' else "a term is missing"
            raise self.refusal(cause)
        self.at = found.end()
        match found.lastgroup:
            case "open":
                self.skip_space()
                inner = self.read_any()
                if self.text[self.at : self.at + 1] != ")":
                    raise self.refusal("a ) is missing", at=start)
                self.at += 1
                self.skip_space()
                return inner
            case "close":
                raise self.refusal("a term is missing", at=start)
            case "minus":
                return Not(self.read_one())
            case "operator":
                return self.read_comparison(found["name"], found["operator"], start)
            case _:
                return self.read_words(found[0], start)

    def read_comparison(self, name: str, sign: str, start: int) -> Query:
        """Read the values behind a field and an operator."""
        self.count_term(start)
        wanted = find_field(name)
        if wanted is None:
            table = FIELDS.get(name.partition(".")[0])
            if table is not None and table.type is FieldType.TABLE:
                raise self.refusal("names no fact", f"{table.name}.NAME", start)
            cure = suggest(name, sorted(FIELDS)) if table is None else "it has no facts"
            raise self.refusal(f"no record has a field {name!r}", cure, start)
        operator = _SINCE if name == "since" else Operator(sign if sign != "=" else ":")
        values: list[Value] = []
        while True:
            at = self.at
            found = _VALUE.match(self.text, at)
            if found is None:
                raise self.refusal("a value is missing", 'an empty one is written ""')
            self.at = found.end()
            try:
                values.append(self.values.read(wanted, operator, found))
            except _WrongValueError as wrong:
                raise self.refusal(wrong.cause, wrong.cure, at) from None
            if len(values) > QUERY_VALUES_MAX:
                raise self.refusal(f"there are more values than {QUERY_VALUES_MAX}", at=start)
            if self.text[self.at : self.at + 1] != ",":
                break
            self.at += 1
        self.skip_space()
        return Compare(wanted, operator, tuple(values))

    def read_words(self, written: str, start: int) -> Query:
        """Read words to be looked for in names."""
        self.count_term(start)
        words = words_of(_unquoted(written) if written.startswith('"') else written)
        if not words:
            raise self.refusal("has no letter and no digit", at=start)
        self.skip_space()
        return Words(tuple(words))

    # -- tokens --------------------------------------------------------------------------------

    def keyword(self) -> str:
        """Return the keyword that stands here, in lower case; empty: none does."""
        found = _KEYWORD.match(self.text, self.at)
        return found[0].lower() if found else ""

    def take_keyword(self, wanted: str) -> bool:
        """Go past a keyword, if it stands here."""
        if self.keyword() != wanted:
            return False
        self.at += len(wanted)
        self.skip_space()
        return True

    def skip_space(self) -> None:
        """Go past white space."""
        found = _SPACE.match(self.text, self.at)
        assert found is not None, "no space is space enough"
        self.at = found.end()

    def count_term(self, start: int) -> None:
        """Count one more."""
        self.terms += 1
        if self.terms > QUERY_TERMS_MAX:
            raise self.refusal(f"there are more terms than {QUERY_TERMS_MAX}", at=start)

    def refusal(self, cause: str, cure: str = "", at: int | None = None) -> QueryRefused:
        """Make the error for a place; here, unless another is given."""
        return QueryRefused(self.text, self.at if at is None else at, cause, cure)


_SINCE: Final = Operator.AT_LEAST
_KEYWORD: Final = re.compile(r"(?:and|or|not)(?=[\s(]|$)", re.ASCII | re.IGNORECASE)


def _unquoted(written: str) -> str:
    return _ESCAPED.sub(r"\1", written[1:-1])


# -- values ------------------------------------------------------------------------------------


class _WrongValueError(Exception):
    def __init__(self, cause: str, cure: str = "") -> None:
        super().__init__(cause)
        self.cause = cause
        self.cure = cure


@dataclass(frozen=True, slots=True)
class _Values:
    """Reads values as their fields are written."""

    now: float
    zone: dt.tzinfo

    def read(self, wanted: Field, operator: Operator, found: re.Match[str]) -> Value:
        """Read one value."""
        is_quoted = found["quoted"] is not None
        text = _unquoted(found[0]) if is_quoted else found[0]
        is_ordered = operator not in {Operator.IS, Operator.IS_NOT}
        if wanted.type in {FieldType.TEXT, FieldType.TEXTS, FieldType.ADDRESS} and is_ordered:
            raise _WrongValueError(f"{wanted.name} has no order", f"{wanted.name}:VALUE")
        match wanted.type:
            case FieldType.TEXT | FieldType.TEXTS:
                return _read_pattern(wanted, text, is_quoted=is_quoted)
            case FieldType.ADDRESS:
                return _read_network(text)
            case FieldType.FLAG:
                return _read_flag(text)
            case FieldType.TIME:
                return self._read_time(text)
            case _:
                return _read_number(wanted, text)

    def _read_time(self, text: str) -> float:
        ago = _DURATION.fullmatch(text)
        if ago is not None and ago[2]:
            return self.now - float(ago[1]) * _SECONDS[ago[2]]
        try:
            read = dt.datetime.fromisoformat(text)
            aware = read if read.tzinfo is not None else read.replace(tzinfo=self.zone)
            return aware.timestamp()
        except (ValueError, OverflowError):
            cure = "2026-11-28, 2026-11-28T14:30, or how long ago: 30s, 15m, 2h, 7d"
            raise _WrongValueError(f"{text!r} is no time", cure) from None


_NUMBER: Final = r"([0-9]{1,15}(?:\.[0-9]{1,9})?)"
_SIZE: Final = re.compile(rf"{_NUMBER}(|B|K|KB|KiB|M|MB|MiB|G|GB|GiB|T|TB|TiB)", re.ASCII)
_DURATION: Final = re.compile(rf"{_NUMBER}(|ms|s|m|h|d|w)", re.ASCII)
_PLAIN: Final = re.compile(rf"-?{_NUMBER}()", re.ASCII)
_SECONDS: Final = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}
_STEPS: Final = {"": 0, "K": 1, "M": 2, "G": 3, "T": 4}


def _read_number(wanted: Field, text: str) -> float:
    if wanted.type is FieldType.SIZE:
        found = _SIZE.fullmatch(text)
        if found is None:
            raise _WrongValueError(f"{text!r} is no number of bytes", "4096, 1.5MiB, 2GB")
        # K and KiB are powers of two, as everywhere in our configuration; KB is one of ten.
        unit = found[2]
        step = 1000 if len(unit) == len("KB") else 1024
        power: int = _STEPS[unit[:1].replace("B", "")]
        return float(found[1]) * float(step**power)
    if wanted.type in {FieldType.SECONDS, FieldType.MILLISECONDS}:
        found = _DURATION.fullmatch(text)
        if found is None:
            raise _WrongValueError(f"{text!r} is no duration", "1.5, 250ms, 10s, 2h")
        own = 1.0 if wanted.type is FieldType.SECONDS else 0.001
        return float(found[1]) * (_SECONDS[found[2]] / own if found[2] else 1.0)
    if _PLAIN.fullmatch(text) is None:
        raise _WrongValueError(f"{text!r} is no number")
    return float(text)


def _read_flag(text: str) -> float:
    if text not in {"yes", "no"}:
        raise _WrongValueError(f"{text!r} is neither", "yes or no")
    return float(text == "yes")


def _read_network(text: str) -> Network:
    try:
        network = ipaddress.ip_network(text)
    except ValueError:
        cure = "10.0.0.0/8, 2001:db8::1; a name is asked for with host:"
        raise _WrongValueError(f"{text!r} is no address and no network", cure) from None
    first, last = network.network_address.packed, network.broadcast_address.packed
    mapped = b"" if network.version == _IPV6 else bytes(10) + b"\xff\xff"
    return Network(mapped + first, mapped + last)


_IPV6: Final = 6


def _read_pattern(wanted: Field, text: str, *, is_quoted: bool) -> Pattern:
    lower = in_lower_case(text)
    if wanted.name == "kind" and not is_quoted and "*" not in lower and lower not in KINDS:
        raise _WrongValueError(f"there are no records of kind {text!r}", ", ".join(sorted(KINDS)))
    if is_quoted:
        return Pattern((lower,))
    pieces = tuple(lower.split("*"))
    if len(pieces) - 1 > QUERY_STARS_MAX:
        raise _WrongValueError(f"has more stars than {QUERY_STARS_MAX}")
    return Pattern(pieces)
