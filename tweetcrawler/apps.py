"""Apps that a file of credentials names twice: once by their keys, once by their bearer token.

X counts the requests of both together, so they must share their buckets.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace

from tweetcrawler.errors import XError
from tweetcrawler.secret import Credential
from tweetcrawler.settings import Settings

log = logging.getLogger(__name__)


def recognized(credentials: Sequence[Credential], settings: Settings) -> list[Credential]:
    """The credentials; a lone bearer token gets the keys of its app, if the others hold them.

    Only X can tell whose token it is. It is asked, for nothing, where a file has tokens without
    keys beside keys without a token.
    """
    known = list(credentials)
    lone = {number for number, each in enumerate(known) if each.consumer_key is None}
    asked: set[str] = set()
    for keyed in credentials:
        if not lone:
            break
        if keyed.consumer_key is None or keyed.bearer_token or keyed.app_fingerprint in asked:
            continue
        asked.add(keyed.app_fingerprint)
        for number in _same_app(keyed, {n: known[n] for n in lone}, settings):
            lone.discard(number)
            known[number] = replace(
                known[number],
                consumer_key=keyed.consumer_key,
                consumer_secret=keyed.consumer_secret,
            )
            log.info("%s and %s are one app: they share its limits", keyed.name, known[number].name)
    return known


def _same_app(keyed: Credential, lone: dict[int, Credential], settings: Settings) -> list[int]:
    # Here, since most files need no request, and then the parent loads no tweepy.
    from tweetcrawler.xapi import Timeouts, X

    timeouts = Timeouts(
        settings.connect_timeout_s, settings.read_timeout_s, settings.total_timeout_s
    )
    try:
        token = X(keyed, api_url=settings.api_url, timeouts=timeouts).bearer_token()
    except XError as error:
        # The run itself finds out whether X refuses these keys or gives no answer.
        log.debug("whose app %s is cannot be told: %s", keyed.name, error)
        return []
    return [number for number, each in lone.items() if each.bearer_token == token]
