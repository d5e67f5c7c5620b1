"""Posts of the made world, from a person and a number.

Every kind of tweet that X knows.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import IntEnum
from functools import lru_cache
from typing import Any, NamedTuple, Protocol

from tweetcrawler.sandbox import wording
from tweetcrawler.sandbox.clock import SNOWFLAKE_EPOCH_MS
from tweetcrawler.sandbox.dice import Dice, mix
from tweetcrawler.sandbox.people import MadePerson

SOURCE_LEFT_MS = 1_671_494_400_000
"""20 December 2022: later tweets do not say which program sent them."""
# 9 February 2023: long posts came to X, as `note_tweet`.
NOTES_BEGAN_MS = 1_675_900_800_000
_POPULAR = 32
"""One in this number of posts of a public person is one that others retweet, quote and answer."""
_LETTERS = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_PAIRS = tuple(a + b for a in _LETTERS for b in _LETTERS)


class Kind(IntEnum):
    PLAIN = 0
    REPLY = 1
    THREAD = 2
    RETWEET = 3
    RETWEET_OF_QUOTE = 4
    QUOTE = 5
    QUOTE_OF_GONE = 6
    QUOTE_OF_PROTECTED = 7
    REPLY_WITH_QUOTE = 8
    NOTE = 9
    PHOTOS = 10
    GIF = 11
    VIDEO = 12
    POLL = 13
    PLACE = 14
    EDITED = 15
    WITHHELD = 16
    COMMUNITY = 17
    ARTICLE = 18
    MENTION_OF_SUSPENDED = 19


RETWEETS = frozenset({Kind.RETWEET, Kind.RETWEET_OF_QUOTE})
REPLIES = frozenset({Kind.REPLY, Kind.THREAD, Kind.REPLY_WITH_QUOTE})


def _table(shares: dict[Kind, int]) -> tuple[Kind, ...]:
    """256 kinds, each with its share; an unfinished table ends in plain posts."""
    kinds = tuple(kind for kind, share in shares.items() for _ in range(share))
    return (*kinds, *(Kind.PLAIN,) * 256)[:256]


_KINDS = _table(
    {
        Kind.PLAIN: 78,
        Kind.REPLY: 36,
        Kind.THREAD: 14,
        Kind.RETWEET: 50,
        Kind.RETWEET_OF_QUOTE: 4,
        Kind.QUOTE: 14,
        Kind.QUOTE_OF_GONE: 2,
        Kind.QUOTE_OF_PROTECTED: 1,
        Kind.REPLY_WITH_QUOTE: 2,
        Kind.NOTE: 8,
        Kind.PHOTOS: 18,
        Kind.GIF: 4,
        Kind.VIDEO: 8,
        Kind.POLL: 3,
        Kind.PLACE: 5,
        Kind.EDITED: 3,
        Kind.WITHHELD: 1,
        Kind.COMMUNITY: 2,
        Kind.ARTICLE: 1,
        Kind.MENTION_OF_SUSPENDED: 2,
    }
)
_POPULAR_KINDS = _table(
    {
        Kind.PLAIN: 90,
        Kind.QUOTE: 40,
        Kind.NOTE: 46,
        Kind.PHOTOS: 44,
        Kind.GIF: 8,
        Kind.VIDEO: 22,
        Kind.POLL: 6,
    }
)


_REPLY_SETTINGS = ("everyone",) * 96 + (
    "mentionedUsers",
    "mentionedUsers",
    "following",
    "subscribers",
)


class Ref(NamedTuple):
    """A post that another one refers to; `author` None means that nobody ever wrote it."""

    type: str
    id: int
    author: str | None = None
    k: int = 0


@dataclass(slots=True, frozen=True)
class Post:
    """A tweet with all its fields, and the objects that expansions can add.

    `slot` counts the author's posts from the newest back, -1 when it has no such place.
    """

    id: int
    author: str
    tweet: dict[str, Any]
    refs: tuple[Ref, ...] = ()
    mentioned: tuple[str, ...] = ()
    answered: str | None = None
    media: tuple[dict[str, Any], ...] = ()
    poll: dict[str, Any] | None = None
    place: dict[str, Any] | None = None
    versions: tuple[int, ...] = ()
    slot: int = -1


class People(Protocol):
    """The facts about other people that a writer of posts needs."""

    public_names: tuple[str, ...]

    def person(self, key: str) -> MadePerson: ...


class Others(Protocol):
    """The posts of other people, which a post may refer to."""

    @property
    def people(self) -> People: ...

    def written(self, person: MadePerson, k: int) -> Post: ...


def kind_of(person: MadePerson, k: int) -> Kind:
    """The kind of the k-th post, without writing it."""
    share = mix(k, person.salt) >> 40 & 0xFF
    return (
        _POPULAR_KINDS[share] if person.public and k >= 0 and k % _POPULAR == 0 else _KINDS[share]
    )


def write(others: Others, person: MadePerson, k: int, id_: int) -> Post:
    """The k-th post of the person, whose newest version has this id."""
    draft = _Draft(others, person, k, id_)
    _WRITERS[draft.kind](draft)
    return draft.finish()


def older_version(post: Post, id_: int) -> Post:
    """The post as it was before an edit, with the id that it then had."""
    # X keeps each version of a post under an id of its own; the newest stands for all.
    text = post.tweet["text"].replace(" (edited)", "")
    tweet = post.tweet | {
        "id": str(id_),
        "text": text,
        "created_at": _time((id_ >> 22) + SNOWFLAKE_EPOCH_MS),
    }
    tweet["display_text_range"] = [0, len(text)]
    return Post(id=id_, author=post.author, tweet=tweet, versions=post.versions)


class _Text:
    """A text while it is written: its entities grow with it, so that every offset fits."""

    __slots__ = (
        "_dice",
        "_parts",
        "annotations",
        "cashtags",
        "end",
        "hashtags",
        "mentions",
        "urls",
    )

    def __init__(self, dice: Dice) -> None:
        self._dice = dice
        self._parts: list[str] = []
        self.end = 0
        self.hashtags: list[dict[str, Any]] = []
        self.cashtags: list[dict[str, Any]] = []
        self.mentions: list[dict[str, Any]] = []
        self.urls: list[dict[str, Any]] = []
        self.annotations: list[dict[str, Any]] = []

    # X escapes <, > and & in texts, and counts the offsets of entities in code points of the
    # escaped text, ends exclusive.
    def say(self, text: str, gap: str = " ") -> int:
        """Appends text (already escaped) and gives the place where it begins."""
        if self.end:
            text = gap + text
            start = self.end + len(gap)
        else:
            start = 0
        self._parts.append(text)
        self.end += len(text)
        return start

    def tag(self, tag: str, gap: str = " ") -> None:
        start = self.say("#" + tag, gap)
        self.hashtags.append({"start": start, "end": self.end, "tag": tag})

    def cash(self, tag: str) -> None:
        start = self.say("$" + tag)
        self.cashtags.append({"start": start, "end": self.end, "tag": tag})

    def mention(self, person: MadePerson) -> None:
        start = self.say("@" + person.username)
        self.mentions.append(
            {"start": start, "end": self.end, "username": person.username, "id": str(person.id)}
        )

    def named(self, name: str, kind: str) -> None:
        start = self.say(name)
        self.annotations.append(
            {
                "start": start,
                # The only entity whose end is inclusive.
                "end": self.end - 1,
                "type": kind,
                "normalized_text": name,
                "probability": 0.4 + self._dice.below(6000) / 10000,
            }
        )

    def link(self, expanded: str, shown: str, **more: Any) -> None:
        dice = self._dice
        # The codes of t.co have ten signs. Drawn in pairs they take half as many throws.
        code = "".join([_PAIRS[dice.below(3844)] for _ in range(5)])
        start = self.say("https://t.co/" + code)
        self.urls.append(
            {
                "start": start,
                "end": self.end,
                "url": "https://t.co/" + code,
                "expanded_url": expanded,
                "display_url": shown,
                **more,
            }
        )

    def entities(self) -> dict[str, Any]:
        return {
            name: found
            for name, found in (
                ("hashtags", self.hashtags),
                ("cashtags", self.cashtags),
                ("mentions", self.mentions),
                ("urls", self.urls),
                ("annotations", self.annotations),
            )
            if found
        }

    def __str__(self) -> str:
        return "".join(self._parts)


class _Draft:
    """A tweet while it is written."""

    __slots__ = (
        "answered",
        "dice",
        "extra",
        "id",
        "k",
        "kind",
        "lang",
        "media",
        "mentioned",
        "ms",
        "others",
        "people",
        "person",
        "place",
        "poll",
        "refs",
        "shown_from",
        "shown_to",
        "text",
        "versions",
    )

    def __init__(self, others: Others, person: MadePerson, k: int, id_: int) -> None:
        self.others = others
        self.people = others.people
        self.person = person
        self.k = k
        self.id = id_
        self.kind = kind_of(person, k)
        self.ms = (id_ >> 22) + SNOWFLAKE_EPOCH_MS
        self.dice = Dice(b"%d post %d" % (person.salt, k))
        self.text = _Text(self.dice)
        self.lang = "en"
        self.extra: dict[str, Any] = {}
        self.refs: list[Ref] = []
        self.mentioned: list[str] = []
        self.answered: str | None = None
        self.media: list[dict[str, Any]] = []
        self.poll: dict[str, Any] | None = None
        self.place: dict[str, Any] | None = None
        self.versions: tuple[int, ...] = ()
        self.shown_from = 0
        self.shown_to: int | None = None

    def sentence(self) -> None:
        dice = self.dice
        self.text.say(
            f"{dice.pick(wording.OPENERS)} {dice.pick(wording.SUBJECTS)} "
            f"{dice.pick(wording.PREDICATES)}{dice.pick(wording.CLOSERS)}"
        )

    def words(self) -> None:
        """An ordinary text in one of the languages, with what people put into texts."""
        dice = self.dice
        self.lang = lang = dice.pick(wording.LANGUAGES)
        if lang == "en":
            self.sentence()
            if dice.chance(220):
                self.text.say(dice.pick(wording.SUBJECTS), "\n\n" if dice.chance(400) else " ")
                self.text.say(dice.pick(wording.PREDICATES))
            if dice.chance(180):
                self.text.named(*dice.pick(wording.NAMED))
        elif lang == "und":
            # X's codes for texts without a language: media only (qme), very short (qst), no text
            # (zxx), mentions only (qam).
            self.lang = dice.pick(("und", "qme", "qst", "zxx", "qam"))
            self.text.say(dice.pick(wording.EMOJI) * (1 + dice.below(3)))
        else:
            texts = wording.OTHER_LANGUAGES[lang]
            self.text.say(dice.pick(texts))
            if dice.chance(500):
                self.text.say(dice.pick(texts))
        self._adornments()

    def _adornments(self) -> None:
        dice = self.dice
        fall = dice.below(1000)
        if fall < 280:
            self.text.say(dice.pick(wording.EMOJI))
        if fall % 100 < 34:
            for _ in range(1 + (fall % 3) // 2):
                self.text.tag(
                    wording.TAGS[min(dice.below(len(wording.TAGS)), dice.below(len(wording.TAGS)))]
                )
        if 300 <= fall < 380:
            self.mention(self.someone())
        if 380 <= fall < 395:
            self.text.cash(dice.pick(wording.CASHTAGS))
        if 400 <= fall < 520:
            self.web_link()
        if 520 <= fall < 530:
            self.text.say(f"No. {self.k % 1000}", "\n")

    def web_link(self) -> None:
        host, title = self.dice.pick(wording.SITES)
        path = f"{self.dice.below(9000) + 1000}"
        if self.dice.chance(600):
            self.text.link(
                f"https://{host}/{path}",
                f"{host}/{path}",
                status=200,
                title=title,
                unwound_url=f"https://{host}/{path}?ref=a&b=1",
                images=[
                    {
                        "url": f"https://pbs.twimg.com/news_img/{path}/orig.jpg",
                        "width": 1200,
                        "height": 600,
                    }
                ],
            )
        else:
            self.text.link(f"https://{host}/{path}", f"{host}/{path}")

    # -- others -----------------------------------------------------------

    def someone(self) -> MadePerson:
        return self.people.person(self.dice.pick(self.people.public_names))

    def popular(self, *kinds: Kind) -> tuple[MadePerson, int]:
        """A post of a public person, a little older than this one.

        It is of one of the kinds if there is one near.
        """
        person = self.someone()
        newest = min(person.k_before(self.id), person.last_k)
        k = newest // _POPULAR * _POPULAR - _POPULAR * self.dice.below(3)
        first = k
        if kinds:
            for _ in range(24):
                if kind_of(person, k) in kinds:
                    return person, k
                k -= _POPULAR
        return person, first

    def mention(self, person: MadePerson) -> None:
        self.text.mention(person)
        self.mentioned.append(person.key)

    def quote(self, person: MadePerson, id_: int, k: int) -> None:
        self.refs.append(Ref("quoted", id_, person.key, k))
        self.quote_link(person.username, id_)

    def quote_link(self, username: str, id_: int) -> None:
        # The link of a quote is part of the text, but not of what X shows of it.
        self.shown_to = self.text.end
        self.text.link(
            f"https://twitter.com/{username}/status/{id_}", f"twitter.com/{username[:9]}/s…"
        )

    def answer(self, person: MadePerson, id_: int, k: int) -> None:
        if id_ <= 0:
            return  # that person had posted nothing yet
        self.refs.append(Ref("replied_to", id_, person.key, k))
        self.answered = person.key
        self.extra["in_reply_to_user_id"] = str(person.id)

    def file(self, kind: str, number: int) -> str:
        """Adds a photo, gif or video to the attachments; the key tells the kind."""
        dice = self.dice
        file_id = self.id - 2_000_000_000 + number
        key = f"{ {'photo': 3, 'video': 7, 'animated_gif': 16}[kind] }_{file_id}"
        media: dict[str, Any] = {
            "media_key": key,
            "type": kind,
            "width": 640 + 16 * dice.below(80),
            "height": 480 + 16 * dice.below(60),
        }
        if kind == "photo":
            media["url"] = f"https://pbs.twimg.com/media/{file_id:x}.jpg"
        else:
            media["preview_image_url"] = f"https://pbs.twimg.com/tweet_video_thumb/{file_id:x}.jpg"
            base = f"https://video.twimg.com/ext_tw_video/{file_id}/pu"
            media["variants"] = [
                # A gif is a silent video, with a single variant and no bit rate.
                {"bit_rate": 0, "content_type": "video/mp4", "url": f"{base}/vid/g.mp4"}
            ]
        if kind == "video":
            media["duration_ms"] = 4_000 + 977 * dice.below(140)
            media["public_metrics"] = {"view_count": dice.heavy(900, 9_000_000)}
            media["variants"] = [
                # The playlist has no bit rate at all.
                {
                    "content_type": "application/x-mpegURL",
                    "url": f"{base}/pl/a.m3u8?tag=12&container=fmp4",
                },
                {
                    "bit_rate": 256000,
                    "content_type": "video/mp4",
                    "url": f"{base}/vid/480x270/b.mp4?tag=12",
                },
                {
                    "bit_rate": 2176000,
                    "content_type": "video/mp4",
                    "url": f"{base}/vid/1280x720/c.mp4?tag=12",
                },
            ]
        if dice.chance(300):
            media["alt_text"] = f"{dice.pick(wording.SUBJECTS)}, seen from above"
        self.media.append(media)
        return key

    # -- the end ----------------------------------------------------------

    def _metrics(self) -> dict[str, int]:
        dice = self.dice
        return {
            "retweet_count": (retweets := dice.heavy(4, 90_000)),
            "reply_count": dice.heavy(3, 30_000),
            "like_count": retweets * 5 + dice.below(40),
            "quote_count": retweets // 9,
            "bookmark_count": retweets // 3,
            # Views were counted from about the day on which the client was left out.
            "impression_count": (
                (retweets * 700 + dice.below(900)) if self.ms > SOURCE_LEFT_MS else 0
            ),
        }

    def finish(self) -> Post:
        dice = self.dice
        rare = dice.below(1000)
        text = str(self.text)
        id_text = str(self.id)
        ms = self.ms
        created = _time(ms)
        tweet: dict[str, Any] = {
            "id": id_text,
            "text": text,
            "author_id": str(self.person.id),
            "username": self.person.username,
            "created_at": created,
            "conversation_id": id_text,
            "edit_history_tweet_ids": [id_text],
            "lang": self.lang,
            "possibly_sensitive": rare < 12,
            "reply_settings": _REPLY_SETTINGS[rare % 100],
            "edit_controls": {
                "edits_remaining": 5,
                "is_edit_eligible": self.kind not in RETWEETS,
                "editable_until": _time(ms + 3_600_000),
            },
            "display_text_range": [
                self.shown_from,
                len(text) if self.shown_to is None else self.shown_to,
            ],
        }
        tweet["public_metrics"] = self.extra.pop("public_metrics", None) or self._metrics()
        if entities := self.text.entities():
            tweet["entities"] = entities
        if ms < SOURCE_LEFT_MS:  # X left the client out of its answers from that day on
            tweet["source"] = dice.pick(wording.SOURCES)
        if self.media or self.poll:
            tweet["attachments"] = {}
            if self.media:
                tweet["attachments"]["media_keys"] = [media["media_key"] for media in self.media]
            if self.poll:
                tweet["attachments"]["poll_ids"] = [self.poll["id"]]
        if self.refs:
            tweet["referenced_tweets"] = [
                {"type": ref.type, "id": str(ref.id)} for ref in self.refs
            ]
        if rare % 10 < 3:
            tweet["context_annotations"] = [
                {"domain": domain, "entity": entity}
                for domain, entity in (
                    dice.pick(wording.CONTEXTS) for _ in range(1 + dice.below(4))
                )
            ]
        tweet.update(self.extra)
        return Post(
            id=self.id,
            author=self.person.key,
            tweet=tweet,
            refs=tuple(self.refs),
            mentioned=tuple(self.mentioned),
            answered=self.answered,
            media=tuple(self.media),
            poll=self.poll,
            place=self.place,
            versions=self.versions,
            slot=self.person.last_k - self.k if self.k >= 0 else -1,
        )


def _plain(draft: _Draft) -> None:
    draft.words()


def _retweet(draft: _Draft) -> None:
    kinds = (Kind.QUOTE,) if draft.kind is Kind.RETWEET_OF_QUOTE else ()
    person, k = draft.popular(*kinds)
    original = draft.others.written(person, k)
    note = original.tweet.get("note_tweet", original.tweet)["text"]
    head = f"RT @{person.username}: "
    full = head + note
    # X cuts a retweet at 140 characters, with its head; only the retweeted post has the whole.
    text = full if len(full) <= 140 else full[:139] + "…"
    draft.text.say(text)
    draft.lang = original.tweet["lang"]
    draft.text.mentions.append(
        {
            "start": 3,
            "end": 4 + len(person.username),
            "username": person.username,
            "id": str(person.id),
        }
    )
    draft.mentioned.append(person.key)
    moved = len(head)
    for name, kept in (
        ("hashtags", draft.text.hashtags),
        ("mentions", draft.text.mentions),
        ("urls", draft.text.urls),
    ):
        for entity in original.tweet.get("entities", {}).get(name, ()):
            if entity["end"] + moved < len(text):
                kept.append(
                    entity | {"start": entity["start"] + moved, "end": entity["end"] + moved}
                )
    draft.refs.append(Ref("retweeted", original.id, person.key, k))
    metrics = original.tweet["public_metrics"]
    draft.extra["public_metrics"] = {
        "retweet_count": metrics["retweet_count"],
        # Of the original's counts X shows that of retweets at a retweet, and zeros for the
        # rest.
        "reply_count": 0,
        "like_count": 0,
        "quote_count": 0,
        "bookmark_count": 0,
        "impression_count": 0,
    }


def _reply(draft: _Draft) -> None:
    person, k = draft.popular()
    draft.mention(person)
    draft.shown_from = len(person.username) + 2
    draft.words()
    id_ = person.id_of(k)
    draft.answer(person, id_, k)
    draft.extra["conversation_id"] = str(id_)


def _thread(draft: _Draft) -> None:
    """Continues the person's own latest post that is no retweet.

    A thread's conversation is its first post.
    """
    draft.words()
    person = draft.person
    if draft.k < 0:
        return
    k = _before_in_thread(person, draft.k)
    draft.answer(person, person.id_of(k), k)
    while kind_of(person, k) is Kind.THREAD:
        k = _before_in_thread(person, k)
    if kind_of(person, k) in REPLIES:
        root = draft.others.written(person, k)
        draft.extra["conversation_id"] = root.tweet["conversation_id"]
    else:
        draft.extra["conversation_id"] = str(person.id_of(k))


def _before_in_thread(person: MadePerson, k: int) -> int:
    k -= 1
    while kind_of(person, k) in RETWEETS:
        k -= 1
    return k


def _quote(draft: _Draft) -> None:
    draft.words()
    person, k = draft.popular()
    draft.quote(person, person.id_of(k), k)


def _quote_of_gone(draft: _Draft) -> None:
    draft.words()
    person = draft.someone()
    # The low bits are not the tag of the person: no post has this id.
    id_ = (person.id_of(person.k_before(draft.id) - 3) >> 22 << 22) + 77
    draft.refs.append(Ref("quoted", id_))
    draft.quote_link(person.username, id_)


def _quote_of_protected(draft: _Draft) -> None:
    draft.words()
    person = draft.people.person("protected_kim")
    id_ = (draft.id - (9_000_000 << 22) >> 22 << 22) | person.tag
    draft.refs.append(Ref("quoted", id_, person.key))
    draft.quote_link(person.username, id_)


def _reply_with_quote(draft: _Draft) -> None:
    _reply(draft)
    person, k = draft.popular()
    draft.quote(person, person.id_of(k), k)


def _note(draft: _Draft) -> None:
    """A text of more than 280 signs.

    It is cut; note_tweet holds the whole of it, with entities of its own.
    """
    if draft.ms < NOTES_BEGAN_MS:
        draft.words()
        return
    dice = draft.dice
    begin = dice.below(len(wording.LONG))
    for number in range(3 + dice.below(6)):
        draft.text.say(
            wording.LONG[(begin + 3 * number) % len(wording.LONG)], "\n\n" if number % 2 else " "
        )
        if number == 1 and dice.chance(700):
            draft.text.tag(dice.pick(wording.TAGS))
    draft.mention(draft.someone())
    draft.web_link()
    draft.text.tag(dice.pick(wording.TAGS))
    note: dict[str, Any] = {"text": str(draft.text)}
    entities = {
        name: found for name, found in draft.text.entities().items() if name != "annotations"
    }
    if entities:
        note["entities"] = entities
    cut = note["text"][:273].rsplit(" ", 1)[0]
    draft.mentioned = [key for key in draft.mentioned if entities["mentions"][0]["end"] <= len(cut)]
    draft.text = _Text(dice)
    draft.text.say(cut + "…")
    draft.shown_to = len(cut) + 1
    for name, kept in (("hashtags", draft.text.hashtags), ("mentions", draft.text.mentions)):
        kept.extend(entity for entity in entities.get(name, ()) if entity["end"] <= len(cut))
    draft.text.link(f"https://twitter.com/i/web/status/{draft.id}", "twitter.com/i/web/status/1…")
    draft.extra["note_tweet"] = note


def _photos(draft: _Draft) -> None:
    draft.words()
    keys = [
        draft.file("photo", number)
        for number in range(1 + draft.dice.below(4) * draft.dice.below(2))
    ]
    _media_link(draft, keys, "photo")


def _gif(draft: _Draft) -> None:
    draft.words()
    _media_link(draft, [draft.file("animated_gif", 0)], "photo")


def _video(draft: _Draft) -> None:
    draft.words()
    _media_link(draft, [draft.file("video", 0)], "video")


def _media_link(draft: _Draft, keys: list[str], word: str) -> None:
    """One short link stands in the text; the entities name it once for every file."""
    draft.shown_to = draft.text.end
    draft.text.link(
        f"https://twitter.com/{draft.person.username}/status/{draft.id}/{word}/1",
        "",
        media_key=keys[0],
    )
    last = draft.text.urls[-1]
    last["display_url"] = f"pic.twitter.com/{last['url'][13:]}"
    draft.text.urls.extend(last | {"media_key": key} for key in keys[1:])


def _poll(draft: _Draft) -> None:
    dice = draft.dice
    draft.sentence()
    minutes = dice.pick((5, 60, 1440, 4320, 10080))
    ends_ms = draft.ms + minutes * 60_000
    labels = dice.pick(wording.POLL_LABELS)
    draft.poll = {
        "id": str(draft.id - 4_194_304),
        "duration_minutes": minutes,
        "end_datetime": _time(ends_ms),
        "voting_status": "closed" if ends_ms < draft.person.ms_of(draft.person.last_k) else "open",
        "options": [
            {"position": number + 1, "label": label, "votes": dice.heavy(30, 50_000)}
            for number, label in enumerate(labels)
        ],
    }
    draft.extra["card_uri"] = f"card://{draft.poll['id']}"


def _place(draft: _Draft) -> None:
    draft.words()
    draft.place = draft.dice.pick(wording.PLACES)
    draft.extra["geo"] = {"place_id": draft.place["id"]}
    if draft.dice.chance(300):
        west, south, east, north = draft.place["geo"]["bbox"]
        draft.extra["geo"]["coordinates"] = {
            "type": "Point",
            "coordinates": [(west + east) / 2, (south + north) / 2],
        }


def _edited(draft: _Draft) -> None:
    draft.sentence()
    draft.text.say("(edited)")
    edits = 1 + draft.dice.below(4)
    draft.versions = (
        # The plus binds tighter than the shift: each version is 41 s older than the next.
        *(draft.id - ((edits - number) * 41_000 + 17 << 22) for number in range(edits)),
        draft.id,
    )
    draft.extra["edit_history_tweet_ids"] = [str(version) for version in draft.versions]
    draft.extra["edit_controls"] = {
        "edits_remaining": 5 - edits,
        "is_edit_eligible": True,
        "editable_until": _time(draft.ms + 3_600_000),
    }


def _withheld(draft: _Draft) -> None:
    draft.words()
    draft.extra["withheld"] = {
        "copyright": draft.dice.chance(300),
        "country_codes": ["DE", "FR"],
        "scope": "tweet",
    }


def _community(draft: _Draft) -> None:
    draft.words()
    draft.extra["community_id"] = str(1_493_446_837_214_187_523 + draft.dice.below(9))
    draft.extra["scopes"] = {"followers": False}


def _article(draft: _Draft) -> None:
    title = draft.dice.pick(wording.ARTICLE_TITLES)
    draft.text.link(
        f"https://x.com/i/article/{draft.id - 500}", f"x.com/i/article/{str(draft.id)[:6]}…"
    )
    draft.lang = "zxx"
    draft.extra["article"] = {
        "title": title,
        "preview_text": wording.LONG[0],
        "plain_text": "\n\n".join(wording.LONG[:5]),
    }


def _mention_of_suspended(draft: _Draft) -> None:
    draft.sentence()
    draft.mention(draft.people.person("suspended_bo"))


_WRITERS: dict[Kind, Callable[[_Draft], None]] = {
    Kind.PLAIN: _plain,
    Kind.REPLY: _reply,
    Kind.THREAD: _thread,
    Kind.RETWEET: _retweet,
    Kind.RETWEET_OF_QUOTE: _retweet,
    Kind.QUOTE: _quote,
    Kind.QUOTE_OF_GONE: _quote_of_gone,
    Kind.QUOTE_OF_PROTECTED: _quote_of_protected,
    Kind.REPLY_WITH_QUOTE: _reply_with_quote,
    Kind.NOTE: _note,
    Kind.PHOTOS: _photos,
    Kind.GIF: _gif,
    Kind.VIDEO: _video,
    Kind.POLL: _poll,
    Kind.PLACE: _place,
    Kind.EDITED: _edited,
    Kind.WITHHELD: _withheld,
    Kind.COMMUNITY: _community,
    Kind.ARTICLE: _article,
    Kind.MENTION_OF_SUSPENDED: _mention_of_suspended,
}


def _time(ms: int) -> str:
    # strftime is slow, and thousands of posts share the text of a day.
    day, second = divmod(ms // 1000, 86_400)
    return _day(day) + _MINUTES[second // 60] + _SECONDS[second % 60]


@lru_cache(maxsize=10_000)
def _day(day: int) -> str:
    return datetime.fromtimestamp(day * 86_400, UTC).strftime("%Y-%m-%dT")


_MINUTES = tuple(f"{minute // 60:02}:{minute % 60:02}:" for minute in range(1440))
_SECONDS = tuple(f"{second:02}.000Z" for second in range(60))
