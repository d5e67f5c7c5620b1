"""How X says no: the bodies of its errors, field for field."""

from __future__ import annotations

from typing import Any

# X wrote its old host there until early 2026 and api.x.com in newer bodies: a client compares the
# last part of the path only.
PROBLEMS = "https://api.twitter.com/2/problems/"
Body = dict[str, Any]


class Refusal(Exception):
    """An answer that is not 200; `counted` tells whether it used up a request of the window."""

    def __init__(
        self,
        status: int,
        body: Body | bytes | None,
        *,
        headers: dict[str, str] | None = None,
        content_type: str = "application/json; charset=utf-8",
    ) -> None:
        super().__init__(status)
        self.status = status
        self.body = body
        self.headers = headers or {}
        self.content_type = content_type


def plain(status: int, title: str) -> Body:
    return {"title": title, "type": "about:blank", "status": status, "detail": title}


# The only refusal without x-rate-limit headers: X does not know whose window it would be.
def unauthorized() -> Refusal:
    return Refusal(401, plain(401, "Unauthorized"))


def wrong_consumer_keys() -> Body:
    return {
        "errors": [
            {
                "code": 99,
                "message": "Unable to verify your credentials",
                "label": "authenticity_token_error",
            }
        ]
    }


def not_found() -> Refusal:
    return Refusal(404, plain(404, "Not Found"))


def invalid(errors: list[Body]) -> Refusal:
    """400; each of `errors` names the parameters as sent and says what is wrong with them."""
    return Refusal(
        400,
        {
            "errors": errors,
            "title": "Invalid Request",
            "detail": "One or more parameters to your request was invalid.",
            "type": PROBLEMS + "invalid-request",
        },
    )


def wrong_parameter(name: str, values: list[str], message: str) -> Body:
    return {"parameters": {name: values}, "message": message}


# Not 401: the keys are good, but X offers the endpoint to another kind of token.
def wrong_kind_of_token(used: str, supported: list[str]) -> Refusal:
    return Refusal(
        403,
        {
            "title": "Unsupported Authentication",
            # Two blanks after the full stop, as X writes it.
            "detail": (
                f"Authenticating with {used} is forbidden for this endpoint.  Supported "
                f"authentication types are [{', '.join(supported)}]."
            ),
            "type": PROBLEMS + "unsupported-authentication",
            "status": 403,
        },
    )


# No `errors` and no `status` in it, other than in the other 403s.
def not_in_plan(client_id: str, reason: str = "client-not-enrolled") -> Refusal:
    return Refusal(
        403,
        {
            "client_id": client_id,
            "required_enrollment": "Appropriate Level of API Access",
            "registration_url": "https://developer.twitter.com/en/docs/projects/overview",
            "title": "Client Forbidden",
            "detail": (
                "This request must be made using an approved developer account that is enrolled "
                "in the requested endpoint."
            ),
            "reason": reason,
            "type": PROBLEMS + "client-forbidden",
        },
    )


# The read endpoints of v1.1 are closed to all apps of self-serve plans.
def v1_closed() -> Refusal:
    return Refusal(
        403,
        {
            "errors": [
                {
                    "message": (
                        "You currently have access to a subset of X API V2 endpoints and limited "
                        "v1.1 endpoints (e.g. media post, oauth) only. If you need access to this "
                        "endpoint, you may need a different access level."
                    ),
                    "code": 453,
                }
            ]
        },
    )


# Reported by users in 2026, when a billing limit of their own was hit. Nobody has shown the body,
# so that this one is a guess in the manner of the others.
def spend_cap() -> Refusal:
    return Refusal(
        403,
        {
            "title": "SpendCapReached",
            "detail": "Your account has reached its billing cycle spend cap.",
            "type": PROBLEMS + "credits",
            "status": 403,
        },
    )


def caller_suspended() -> Refusal:
    """The account whose keys these are is suspended."""
    return Refusal(
        403,
        {
            "title": "Forbidden",
            "detail": "The account of this token has been suspended.",
            "type": PROBLEMS + "user-suspended",
            "status": 403,
        },
    )


def of_code(number: int) -> Refusal:
    """403 in the form of v1.1, which v2 still sends."""
    return Refusal(403, {"errors": [{"code": number, "message": f"refused with code {number}"}]})


# X has four different 429s. This one comes with a remaining of 0.
def window_closed() -> Refusal:
    return Refusal(429, plain(429, "Too Many Requests"))


def window_closed_as_of_old() -> Refusal:
    """The body that the documentation still shows."""
    return Refusal(429, {"errors": [{"code": 88, "message": "Rate limit exceeded"}]})


# Also a 429, but with permits left in its headers: who waits for the window to turn waits in vain
# until the cycle of the cap ends.
def capped(account_id: str, period: str = "Monthly", scope: str = "Product") -> Refusal:
    return Refusal(
        429,
        {
            "account_id": int(account_id),
            "product_name": "standard-basic",
            "title": "UsageCapExceeded",
            "period": period,
            "scope": scope,
            "detail": f"Usage cap exceeded: {period} {scope.lower()} cap",
            "type": PROBLEMS + "usage-capped",
        },
    )


def connection_refused(status: int, issue: str, detail: str) -> Refusal:
    """A refusal of a stream's connection; no window has anything to do with it."""
    body = {
        "title": "ConnectionException",
        "detail": detail,
        "connection_issue": issue,
        "type": PROBLEMS + "streaming-connection",
    }
    return Refusal(status, body)


def too_many_connections() -> Refusal:
    """X's fifth 429, again with permits left in its headers."""
    sentence = "This stream is currently at the maximum allowed connection limit."
    return connection_refused(429, "TooManyConnections", sentence)


# Two forms of 402 were seen; the description of the API has none.
def no_credits(account_id: str) -> Refusal:
    return Refusal(
        402,
        {
            "account_id": int(account_id),
            "title": "CreditsDepleted",
            "detail": (
                f"Your enrolled account [{account_id}] does not have any credits to fulfill this "
                "request."
            ),
            "type": PROBLEMS + "credits",
        },
    )


def payment_required() -> Refusal:
    return Refusal(
        402,
        {
            "title": "Payment Required",
            "detail": "credits depleted",
            "status": 402,
            "type": "https://api.x.com/2/problems/credits-depleted",
        },
    )


# -- errors inside an answer that is 200 ------------------------------------


def unknown_user(parameter: str, value: str) -> Body:
    return {
        "value": value,
        "detail": f"Could not find user with {parameter}: [{value}].",
        "title": "Not Found Error",
        "resource_type": "user",
        "parameter": parameter,
        "resource_id": value,
        "type": PROBLEMS + "resource-not-found",
    }


# The type is that of a user who is not there; only the title tells them apart.
def suspended_user(parameter: str, value: str, resource_id: str | None = None) -> Body:
    return {
        "value": value,
        "detail": f"User has been suspended: [{value}].",
        "title": "Forbidden",
        "resource_type": "user",
        "parameter": parameter,
        "resource_id": resource_id or value,
        "type": PROBLEMS + "resource-not-found",
    }


# Lookups give a protected user in `data`; only what the user wrote is refused.
def protected_user(parameter: str, value: str) -> Body:
    return {
        "resource_id": value,
        "parameter": parameter,
        "resource_type": "user",
        "section": "data",
        "title": "Authorization Error",
        "value": value,
        "detail": f"Sorry, you are not authorized to see the user with {parameter}: [{value}].",
        "type": PROBLEMS + "not-authorized-for-resource",
    }


def unknown_tweet(parameter: str, value: str) -> Body:
    return {
        "value": value,
        "detail": f"Could not find tweet with {parameter}: [{value}].",
        "title": "Not Found Error",
        "resource_type": "tweet",
        "parameter": parameter,
        "resource_id": value,
        "type": PROBLEMS + "resource-not-found",
    }


def hidden_tweet(parameter: str, value: str, section: str) -> Body:
    return {
        "resource_id": value,
        "parameter": parameter,
        "resource_type": "tweet",
        "section": section,
        "title": "Authorization Error",
        "value": value,
        "detail": f"Sorry, you are not authorized to see the Tweet with {parameter}: [{value}].",
        "type": PROBLEMS + "not-authorized-for-resource",
    }


def private_field(field: str, value: str) -> Body:
    return {
        "resource_id": value,
        "parameter": "id",
        "resource_type": "tweet",
        "section": "data",
        "field": field,
        "title": "Field Authorization Error",
        "value": value,
        "detail": (
            f"Sorry, you are not authorized to access '{field}' on the Tweet with id : [{value}]."
        ),
        "type": PROBLEMS + "not-authorized-for-field",
    }
