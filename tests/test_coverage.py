"""Coverage and the walk under interruption.

Every post is stored, and no id is claimed too early.
"""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tweetcrawler import coverage, ids
from tweetcrawler.coverage import Ask, Hole, Walk

SETTLED = 10**9

ranges = st.lists(
    st.tuples(st.integers(1, 300), st.integers(1, 40)).map(lambda r: (r[0], r[0] + r[1])),
    max_size=8,
)


@given(ranges)
def test_holes_and_coverage_share_no_id_and_leave_none_out(known: list[coverage.Range]) -> None:
    covered = {i for lower, upper in known for i in range(lower, upper)}
    open_: set[int] = set()
    for hole in coverage.holes(known):
        ids = set(range(hole.since_id + 1, 400 if hole.until_id is None else hole.until_id))
        assert not ids & open_
        open_ |= ids
    assert covered | open_ == set(range(1, 400))
    assert not covered & open_


@given(ranges)
def test_holes_come_newest_first(known: list[coverage.Range]) -> None:
    since = [hole.since_id for hole in coverage.holes(known)]
    assert since == sorted(since, reverse=True)


@given(ranges)
def test_text_form_is_read_back(known: list[coverage.Range]) -> None:
    merged = coverage.union(known)
    assert coverage.from_text(coverage.to_text(merged)) == merged


class Timeline:
    """A user's posts as X pages them.

    Newest first, at most `depth` of them, sometimes an empty page.
    """

    def __init__(self, ids: set[int], *, page: int = 5, depth: int = 3_200) -> None:
        self.ids = ids
        self.page = page
        self.depth = depth
        self.sold: list[int] = []

    def answer(self, ask: Ask) -> tuple[list[int], str | None]:
        reachable = sorted(self.ids, reverse=True)[: self.depth]
        matching = [
            i for i in reachable if i > ask.since_id and (ask.until_id is None or i < ask.until_id)
        ]
        start = int(ask.token or 0)
        found = matching[start : start + self.page]
        self.sold += found
        more = len(matching) > start + self.page
        return found, str(start + self.page) if more else None


@given(
    st.sets(st.integers(1, 500), max_size=60),
    st.lists(st.integers(0, 6), max_size=12),
    st.lists(st.sets(st.integers(501, 900), max_size=15), max_size=3),
)
def test_interrupted_anywhere_every_post_is_stored_and_bought_once(
    first: set[int], stops: list[int], later: list[set[int]]
) -> None:
    """Each stop forgets the walk; only coverage is kept, as after a crash between two pages."""
    x = Timeline(set(first))
    known: list[coverage.Range] = []
    stored: set[int] = set()
    news = list(later)
    for pages in [*stops, *([1_000] * (len(later) + 2))]:
        if news and pages == 0:
            x.ids |= {i for i in news.pop(0) if i > max(stored, default=0)}
        known = _crawl(x, known, stored, pages)
    for batch in news:
        x.ids |= {i for i in batch if i > max(stored, default=0)}
        known = _crawl(x, known, stored, 1_000)
    known = _crawl(x, known, stored, 1_000)
    assert stored == x.ids
    assert len(x.sold) == len(set(x.sold))
    assert all(any(lower <= i < upper for lower, upper in known) for i in stored)


def _crawl(
    x: Timeline, known: list[coverage.Range], stored: set[int], pages: int
) -> list[coverage.Range]:
    for hole in coverage.holes(known):
        walk = Walk(hole, account_posts=len(x.ids))
        while walk.ask is not None:
            if pages == 0:
                return known
            pages -= 1
            ids, token = x.answer(walk.ask)
            stored.update(ids)
            learned = walk.learn(ids, token, settled_below_id=SETTLED)
            if learned.covered:
                known = coverage.union(known, [learned.covered])
    return known


def test_empty_page_with_token_is_not_the_end() -> None:
    walk = Walk(Hole(0, 100))
    learned = walk.learn([], "t1", settled_below_id=SETTLED)
    assert learned.covered is None
    assert walk.ask == Ask(0, 100, "t1")
    learned = walk.learn([50], None, settled_below_id=SETTLED)
    assert learned.covered == (1, 100)
    assert walk.ask is None


def test_empty_page_without_token_covers_a_hole_between_two_known_ranges() -> None:
    walk = Walk(Hole(40, 100))
    assert walk.learn([], None, settled_below_id=SETTLED).covered == (41, 100)


def test_empty_answer_about_the_newest_covers_nothing() -> None:
    walk = Walk(Hole(40, None))
    assert walk.learn([], None, settled_below_id=SETTLED) == coverage.Learned()
    assert walk.ask is None
    assert not walk.stalled


def test_repeated_token_is_a_stall_and_leaves_the_hole_open() -> None:
    walk = Walk(Hole(0, 100))
    walk.learn([], "t1", settled_below_id=SETTLED)
    assert walk.learn([], "t1", settled_below_id=SETTLED).covered is None
    assert walk.stalled
    assert walk.ask is None


def test_endless_empty_pages_are_given_up() -> None:
    walk = Walk(Hole(0, 100))
    asked = 0
    while walk.ask is not None:
        assert walk.learn([], f"t{asked}", settled_below_id=SETTLED).covered is None
        asked += 1
    assert walk.stalled
    assert asked == coverage.EMPTY_PAGES_MAX


def test_page_that_repeats_known_ids_covers_nothing_by_itself() -> None:
    walk = Walk(Hole(0, 100))
    assert walk.learn([150, 120], "t1", settled_below_id=SETTLED).covered is None
    assert walk.ask == Ask(0, 100, "t1")


def test_order_and_duplicates_on_a_page_do_not_matter() -> None:
    walk = Walk(Hole(0, 100))
    assert walk.learn([30, 90, 30, 60], "t1", settled_below_id=SETTLED).covered == (30, 100)
    assert walk.ask == Ask(0, 30)


def test_refused_token_falls_back_to_ids() -> None:
    walk = Walk(Hole(0, 100))
    walk.learn([], "t1", settled_below_id=SETTLED)
    assert walk.forget_token()
    assert walk.ask == Ask(0, 100)
    assert not walk.forget_token()


def test_posts_of_the_last_minute_are_not_called_complete() -> None:
    """Ids are only roughly in order of appearance: a post with a smaller id may still turn up."""
    walk = Walk(Hole(0, None))
    assert walk.learn([95, 80, 70], "t", settled_below_id=90).covered == (70, 90)


def test_a_page_of_the_last_minute_alone_covers_nothing_and_the_walk_goes_on() -> None:
    walk = Walk(Hole(0, None))
    assert walk.learn([99, 95], "t", settled_below_id=90).covered is None
    assert walk.ask == Ask(0, 95)
    assert walk.learn([80], None, settled_below_id=90).covered == (1, 90)


def test_posts_of_the_last_minute_are_noted_one_by_one_at_the_end_of_a_walk() -> None:
    walk = Walk(Hole(0, None))
    assert walk.learn([99, 95], "t", settled_below_id=90).young == ()
    learned = walk.learn([92, 80], None, settled_below_id=90)
    assert (learned.covered, learned.young) == ((1, 90), (92, 95, 99))


def test_only_gaps_that_are_over_a_minute_old_are_asked_for_and_many_of_them_at_once() -> None:
    covered = [(1, 90), (92, 93), (95, 96), (99, 100)]
    gaps = coverage.gaps(covered)
    assert gaps == [Hole(95, 99), Hole(92, 95), Hole(89, 92)]
    assert coverage.complete(covered) == [(1, 90)]
    assert coverage.settled_gaps(gaps, 95) == [Hole(92, 95), Hole(89, 92)]
    assert coverage.gaps([(1, 90)]) == coverage.gaps([]) == []
    many = coverage.gaps([(1, 90), *((i, i + 1) for i in range(100, 150, 2))])
    assert coverage.settled_gaps(many, 1_000) == [Hole(89, 148)]


@given(
    st.lists(st.tuples(st.integers(0, 300), st.integers(0, 59)), max_size=40),
    st.lists(st.integers(1, 90), max_size=12),
    st.integers(1, 5),
)
def test_posts_that_turn_up_late_are_found_and_none_is_bought_twice(
    posts: list[tuple[int, int]], pauses: list[int], page: int
) -> None:
    """Posts written at a second of a day, each in X's answers some seconds later, and visits
    at any times.
    """
    base_ms = 1_700_000_000_000
    turns_up = {
        ids.id_at(base_ms + 1_000 * second) + number: second + late
        for number, (second, late) in enumerate(posts)
    }
    known: list[coverage.Range] = []
    x = Timeline(set(), page=page)
    now = 0
    for pause in [*pauses, 400, 61]:
        now += pause
        x.ids = {post for post, at in turns_up.items() if at <= now}
        known = _visit(x, known, settled=ids.id_at(base_ms + 1_000 * (now - 60)))
    assert set(x.sold) == set(turns_up)
    if len(posts) <= coverage.GAPS_MAX:
        assert len(x.sold) == len(set(x.sold))


def _visit(x: Timeline, known: list[coverage.Range], *, settled: int) -> list[coverage.Range]:
    gaps = coverage.gaps(known)
    found = [hole for hole in coverage.holes(known) if hole not in gaps]
    for hole in [*found, *coverage.settled_gaps(gaps, settled)]:
        walk = Walk(hole, account_posts=len(x.ids))
        while walk.ask is not None:
            learned = walk.learn(*x.answer(walk.ask), settled_below_id=settled)
            single = [(post, post + 1) for post in learned.young]
            known = coverage.union(known, single, [learned.covered] if learned.covered else [])
    return known


def test_depth_limit_leaves_the_rest_unreachable_and_never_asked_again() -> None:
    x = Timeline(set(range(1, 4_001)), page=100)
    walk = Walk(Hole(0, None), account_posts=4_000)
    covered: list[coverage.Range] = []
    unreachable: list[coverage.Range] = []
    while walk.ask is not None:
        ids, token = x.answer(walk.ask)
        learned = walk.learn(ids, token, settled_below_id=SETTLED)
        covered = coverage.union(covered, [learned.covered] if learned.covered else [])
        unreachable += [learned.unreachable] if learned.unreachable else []
    assert covered == [(801, 4_001)]
    assert unreachable == [(1, 801)]
    assert coverage.holes(covered, unreachable) == [Hole(4_000, None)]


def test_depth_limit_is_told_from_the_end_after_an_interruption() -> None:
    """The second half of a walk sees few posts itself, but knows how many lie above."""
    walk = Walk(Hole(0, 900), posts_above=3_100, account_posts=9_000)
    assert walk.learn([850, 801], None, settled_below_id=SETTLED).unreachable == (1, 801)


def test_end_of_a_small_account_is_covered_to_the_bottom() -> None:
    walk = Walk(Hole(0, None), account_posts=3)
    assert walk.learn([30, 20, 10], None, settled_below_id=SETTLED).covered == (1, 31)


def test_a_gap_longer_than_the_limit_is_marked_between_the_walks() -> None:
    """More new posts than X gives: the oldest ones are out of reach.

    3,500 since the last crawl; X gives the newest 3,200.
    """
    x = Timeline(set(range(1, 5_001)), page=100)
    walk = Walk(Hole(1_500, None), account_posts=5_000)
    learned = coverage.Learned()
    while walk.ask is not None:
        ids, token = x.answer(walk.ask)
        learned = walk.learn(ids, token, settled_below_id=SETTLED)
    assert learned.unreachable == (1_501, 1_801)


@given(st.integers(1_300_000_000_000, 4_000_000_000_000))
def test_ids_and_moments_are_two_sides_of_one_thing(time_ms: int) -> None:
    assert ids.time_ms_of(ids.id_at(time_ms)) == time_ms
