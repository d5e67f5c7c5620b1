"""Page tokens: opaque to a client, a place in a list to the server.

They look as X's do and never expire.
"""

from __future__ import annotations

from tweetcrawler.sandbox import problems
from tweetcrawler.sandbox.dice import mix, stamp

# The looks are those of recorded tokens, so that nobody comes to rely on a shape that X does not
# have.
_BASE36 = "0123456789abcdefghijklmnopqrstuvwxyz"
_BASE32 = "0123456789ABCDEFGHIJKLMNOPQRSTUV"
TIMELINE = "7140dibdnow9c7btw"
SEARCH = "b26v89c19zqg8o3f"


def page_token(look: str, owner: str, place: int, *, back: bool = False) -> str:
    """The token of the page below (or, going back, above) an id.

    It belongs to the list of `owner`.
    """
    check = stamp(look, owner) % 36**5
    body = _digits((place << 1 | back) ^ mix(check, 1), 36, _BASE36, 13)
    return f"{look}{_digits(check, 36, _BASE36, 5)}{body}".ljust(45, "0")


def read_page_token(parameter: str, look: str, owner: str, token: str) -> tuple[int, bool]:
    """(id, whether it goes back); refuses a token that is not of this list."""
    check = stamp(look, owner) % 36**5
    head = f"{look}{_digits(check, 36, _BASE36, 5)}"
    body = token.removeprefix(head)[:13]
    # X refuses the token of another list; a client that mixes up its targets must not get a page.
    if not token.startswith(head) or not body.isalnum() or len(token) != 45:
        raise bad_token(parameter, token)
    number = int(body, 36) ^ mix(check, 1)
    return number >> 1, bool(number & 1)


# Lists of followers have tokens of another look: sixteen signs, upper case.
def network_token(owner: int, place: int, *, back: bool = False) -> str:
    """The sixteen-sign token of follower lists."""
    return (
        _digits(
            ((place << 1 | back) << 20 | owner % 2**20) ^ mix(owner, 2) % 2**60, 32, _BASE32, 12
        )
        + "EZZZ"
    )


def read_network_token(parameter: str, owner: int, token: str) -> tuple[int, bool]:
    try:
        number = int(token.removesuffix("EZZZ"), 32) ^ mix(owner, 2) % 2**60
    except ValueError:
        raise bad_token(parameter, token) from None
    if len(token) != 16 or not token.endswith("EZZZ") or number % 2**20 != owner % 2**20:
        raise bad_token(parameter, token)
    return number >> 21, bool(number >> 20 & 1)


def bad_token(parameter: str, token: str) -> problems.Refusal:
    return problems.invalid(
        [
            problems.wrong_parameter(
                parameter,
                [token],
                f"The `{parameter}` query parameter value [{token}] is not valid",
            )
        ]
    )


def _digits(number: int, base: int, signs: str, width: int) -> str:
    digits = ""
    while number:
        number, digit = divmod(number, base)
        digits = signs[digit] + digits
    return digits.rjust(width, signs[0])
