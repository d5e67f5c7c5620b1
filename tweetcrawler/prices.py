"""X's prices, caps and limits, read from a file, since X changes them.

Money is counted in whole millionths of a USD, so that sums of any length are exact.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from tweetcrawler.errors import ConfigurationError

SHIPPED = Path(__file__).with_name("prices.toml")
MICRO = 1_000_000


@dataclass(frozen=True)
class Limit:
    """Requests in 15 minutes and in 24 hours, by kind of token; None where unknown."""

    app: int | None = None
    user: int | None = None
    app_day: int | None = None
    user_day: int | None = None


@dataclass(frozen=True)
class Tariff:
    """X's prices in millionths of a USD: per post, user, request to an endpoint, month.

    `posts_per_month` is the cap of a project, None without one. With `once_a_day` what is
    read again on the same UTC day through the same endpoint is free. `limits` are first
    guesses: X's answers know better.
    """

    name: str
    title: str
    post: int
    user: int
    fee_month: int = 0
    posts_per_month: int | None = None
    once_a_day: bool = True
    requests: Mapping[str, int] = field(default_factory=dict)
    limits: Mapping[str, Limit] = field(default_factory=dict)

    def cost(self, endpoint: str, *, requests: int = 0, posts: int = 0, users: int = 0) -> int:
        """Cost of answers of one endpoint, in millionths of a USD."""
        return self.requests.get(endpoint, 0) * requests + self.post * posts + self.user * users


def load(
    path: Path | None, name: str | None, *, post: float | None = None, user: float | None = None
) -> Tariff:
    """A tariff of the file, or of the shipped one; `post` and `user` (USD) replace its prices.

    **Errors**: `ConfigurationError` for a file that cannot be used and a tariff that it does
    not have.
    """
    file = path or SHIPPED
    content = _read(file)
    tariffs = content.get("tariffs")
    if not isinstance(tariffs, dict) or not tariffs:
        raise ConfigurationError(
            f"{file} has no [tariffs.NAME]: begin with a copy of the shipped prices.toml"
        )
    wanted = name or content.get("default") or next(iter(tariffs))
    given = tariffs.get(wanted)
    if not isinstance(given, dict):
        raise ConfigurationError(
            f"{file} has no tariff of that name: name one of {', '.join(tariffs)}"
        )
    tariff = _tariff(str(wanted), given, file)
    return replace(
        tariff,
        # Rounded once, here: half a cent is no number that a float holds exactly.
        post=tariff.post if post is None else round(post * MICRO),
        user=tariff.user if user is None else round(user * MICRO),
    )


def usd(micro: int) -> str:
    """An amount as a reader wants it: `$12.34`, and `$0.125` where cents would hide it."""
    amount = micro / MICRO
    return f"${amount:,.2f}" if micro % 10_000 == 0 or abs(micro) >= MICRO else f"${amount:.3f}"


def _read(file: Path) -> dict[str, Any]:
    try:
        # TOML is UTF-8 by definition, whatever the locale says.
        return tomllib.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigurationError(
            f"the file of prices {file} cannot be read ({error.strerror}); check the path"
        ) from None
    except UnicodeDecodeError:
        raise ConfigurationError(
            f"the file of prices {file} is no text in UTF-8; save it as such"
        ) from None
    except tomllib.TOMLDecodeError as error:
        raise ConfigurationError(
            f"the file of prices {file} is no TOML: {error}; correct it"
        ) from None


_KEYS = {
    "title",
    "fee_month",
    "posts_per_month",
    "once_a_day",
    "post",
    "user",
    "requests",
    "limits",
}
_LIMIT_KEYS = {"app", "user", "app_day", "user_day"}


def _tariff(name: str, given: Mapping[str, Any], file: Path) -> Tariff:
    where = f"{file}, tariff {name}"
    # A misspelt key would else be a price of nothing.
    unknown = set(given) - _KEYS
    if unknown:
        raise ConfigurationError(
            f"{where}: {', '.join(sorted(unknown))} is not known; keys are "
            f"{', '.join(sorted(_KEYS))}"
        )
    for key in ("post", "user"):
        if key not in given:
            raise ConfigurationError(f"{where}: {key} is missing; give its price in USD")
    requests, limits = given.get("requests", {}), given.get("limits", {})
    if not isinstance(requests, dict) or not isinstance(limits, dict):
        raise ConfigurationError(
            f"{where}: requests and limits are tables by endpoint; see the shipped prices.toml"
        )
    cap = given.get("posts_per_month")
    return Tariff(
        name=name,
        title=str(given.get("title", name)),
        post=_money(given["post"], f"{where}: post"),
        user=_money(given["user"], f"{where}: user"),
        fee_month=_money(given.get("fee_month", 0), f"{where}: fee_month"),
        posts_per_month=None if cap is None else _count(cap, f"{where}: posts_per_month"),
        once_a_day=bool(given.get("once_a_day", True)),
        requests={
            endpoint: _money(price, f"{where}: {endpoint}") for endpoint, price in requests.items()
        },
        limits={
            endpoint: _limit(limit, f"{where}: {endpoint}") for endpoint, limit in limits.items()
        },
    )


def _limit(given: object, where: str) -> Limit:
    if not isinstance(given, dict) or set(given) - _LIMIT_KEYS:
        raise ConfigurationError(f"{where}: a limit is a table of {', '.join(sorted(_LIMIT_KEYS))}")
    return Limit(**{key: _count(value, f"{where}: {key}") for key, value in given.items()})


def _money(value: object, where: str) -> int:
    # In Python True is a whole number: `post = true` would be a price of a dollar.
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 1e9:
        raise ConfigurationError(f"{where} must be an amount in USD, 0 or more")
    return round(value * MICRO)


def _count(value: object, where: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 10**12:
        raise ConfigurationError(f"{where} must be a whole number, 0 or more")
    return value
