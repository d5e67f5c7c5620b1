"""Finds the endpoint of a request."""

from __future__ import annotations

from tweetcrawler.sandbox import endpoints, streaming
from tweetcrawler.sandbox.endpoints import Endpoint

TABLE = (*endpoints.TABLE, *streaming.TABLE)
_FIXED = {(one.method, one.template): one for one in TABLE if ":" not in one.template}
_OPEN = [(one.template.split("/")[1:], one) for one in TABLE if ":" in one.template]
_PATHS = {template for _, template in _FIXED}


def route(method: str, path: str) -> tuple[Endpoint, dict[str, str]] | None:
    """The endpoint of a path and the values in it; None for a path that X does not know."""
    # Before the templates: /2/users/me would be a user with the id "me".
    if path in _PATHS:
        fixed = _FIXED.get((method, path)) or _FIXED.get(("GET", path))
        return None if fixed is None else (fixed, {})
    parts = path.split("/")[1:]
    for template, endpoint in _OPEN:
        if len(template) == len(parts) and all(
            part and (wanted[0] == ":" or wanted == part)
            for wanted, part in zip(template, parts, strict=True)
        ):
            return endpoint, {
                wanted[1:]: part
                for wanted, part in zip(template, parts, strict=True)
                if wanted[0] == ":"
            }
    return None
