"""Who asks, and what they may see.

With IAM, policies decide by route, and whoever gets here may see everything. With a JWT, its scopes and its claim
`agents` decide. The API's gateway has checked the signature or the token.
"""

import re
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from shared.call import Call
from shared.errors import ProblemError
from shared.keys import is_id
from shared.observability import mask

CALLS, RECORDINGS, NUMBERS = "calls:read", "recordings:read", "numbers:read"
_ALL = frozenset({CALLS, RECORDINGS, NUMBERS})
_SEPARATORS = re.compile(r"[\s,\[\]]+")
# Whatever may be a phone number, in any spelling: up to three separators between two digits. Dates are masked too.
_DIGITS = re.compile(r"\+?[0-9](?:[\W_]{0,3}[0-9]){6,}")
_MOST_DIGITS = 15  # of a phone number


@dataclass(frozen=True)
class Reader:
    """`agents` are those whose calls the reader may see; None: all."""

    who: str
    scopes: frozenset[str] = _ALL
    agents: frozenset[str] | None = None

    def require(self, *scopes: str) -> None:
        """Raises ProblemError with 403 if the reader lacks one of these scopes."""
        for scope in scopes:
            if scope not in self.scopes:
                raise ProblemError(403, f"This needs the scope {scope}.")

    def has(self, *scopes: str) -> bool:
        return self.scopes.issuperset(scopes)

    def may_see(self, call: Call) -> bool:
        return self.agents is None or call.agent_id in self.agents

    def among(self, agents: Iterable[str]) -> frozenset[str] | None:
        """Those of these agents, or of all if there are none, that the reader may see; None: all."""
        asked = frozenset(agents)
        if self.agents is None:
            return asked or None
        return self.agents & asked if asked else self.agents

    def may_hear(self, call: Call) -> bool:
        """A signed address of a recording contains the number of its caller."""
        return self.has(RECORDINGS, NUMBERS) if has_number(call) else self.has(RECORDINGS)

    def number(self, call: Call) -> str | None:
        number = call.external_number or call.caller
        return number if number is None or self.has(NUMBERS) else mask(number)

    def hide(self, text: str | None) -> str | None:
        """A text of a call, in which numbers are masked if the reader may not see them."""
        if text is None or self.has(NUMBERS):
            return text
        plain = text if text.isascii() else text.translate(_PLAIN)
        masked = _DIGITS.sub(_mask, plain)
        return text if masked == plain else masked


def read_reader(request: dict[str, Any]) -> Reader:
    """The reader in an event's requestContext. Raises ProblemError with 401 if there is none."""
    authorizer = request.get("authorizer") or {}
    if arn := (authorizer.get("iam") or {}).get("userArn"):
        return Reader(str(arn))
    claims = (authorizer.get("jwt") or {}).get("claims") or {}
    if who := claims.get("sub") or claims.get("client_id"):
        return Reader(str(who), _scopes(claims), _agents(claims))
    raise ProblemError(401, "The request says nothing about who sends it.")


def has_number(call: Call) -> bool:
    return bool(call.external_number or call.caller or call.numbers)


def _scopes(claims: dict[str, Any]) -> frozenset[str]:
    """Cognito puts the name of a resource server and a slash before a scope. Other servers do not count."""
    return _ALL.intersection(scope.removeprefix("calls/") for scope in _words(claims.get("scope", "")))


def _agents(claims: dict[str, Any]) -> frozenset[str] | None:
    """The agents in the claim; none if it has no ids, all if there is no claim."""
    named = next((claims[name] for name in ("agents", "custom:agents") if name in claims), None)
    return None if named is None else frozenset(filter(is_id, _words(named)))


def _words(claim: Any) -> list[str]:
    """A claim's words. The gateway writes an array as `[a b]`."""
    text = " ".join(map(str, claim)) if isinstance(claim, list) else str(claim)
    return _SEPARATORS.split(text)


class _Plain(dict[int, str]):
    """Each digit of another script, or of another shape, as 0 to 9; other characters as they are."""

    def __missing__(self, code: int) -> str:
        self[code] = str(unicodedata.digit(chr(code), chr(code)))
        return self[code]


_PLAIN = _Plain()


def _mask(found: re.Match[str]) -> str:
    if found[0].isdecimal() and len(found[0]) > _MOST_DIGITS:
        return found[0]
    return mask(re.sub("[^+0-9]", "", found[0]))
