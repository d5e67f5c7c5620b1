"""Trends of places: stored, and handed on as searches for their posts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from tweetcrawler import run
from tweetcrawler.endpoints import TRENDS
from tweetcrawler.errors import RequestRefused
from tweetcrawler.news import Outcome, PageRead, Result
from tweetcrawler.request import APP
from tweetcrawler.targets import Place
from tweetcrawler.walk import Reach
from tweetcrawler.work import answers
from tweetcrawler.work.kinds import CRAWL, Chunk, Kind, Work, Worker, one_by_one

NAME = "trends"


@dataclass(frozen=True)
class Wanted:
    """The number of trends of a place, and the language of their posts, None for any."""

    max_trends: int = 20
    lang: str | None = None


def work(places: Sequence[Place], wanted: Wanted, reach: Reach) -> Work:
    """The trends of places and their posts."""
    return Work({NAME: places}, {NAME: wanted, CRAWL: reach})


def see_chunk(worker: Worker, places: list[Place]) -> Result:
    """Asks for the trends of places."""
    return one_by_one(worker, places, partial(_see, worker))


def called(place: Place) -> str:
    """The name of a place for the operator."""
    return f"trends of {place.name}"


def _see(worker: Worker, place: Place, chunk: Chunk) -> None:
    wanted: Wanted = worker.job.parameters.get(NAME, Wanted())
    with worker.session() as session:
        try:
            with worker.requests.buying(session, TRENDS, 0, what="nothing", kinds=APP) as purchase:
                page = purchase.ask(
                    lambda x, _: x.trends(place.woeid, max_trends=wanted.max_trends)
                )
        except RequestRefused as error:
            worker.tell(Outcome(called(place), "failed", str(error)))
            return
        seen = answers.trends(page, wanted.lang)
        store = run.trends(session)
        chunk.find(CRAWL, store.save_trends(worker.job.run, purchase.bought, place, seen))
    worker.tell(PageRead(purchase.credential))
    worker.tell(Outcome(called(place), "ok"))


SEE_TRENDS = Kind(NAME, do=see_chunk, called=called, feeds=True)
