"""Posting stock: waiting postings share one transaction, and each stands or falls by itself (decision 0015).

A batch locks its materials, tries the postings in turn against what is there, and writes stock, ledger, audit entries
and events of those that pass by one statement. A posting that is refused writes nothing and harms no other.
"""

from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from uuid import UUID

import msgspec

from busbar.sdk import (
    SITES,
    BusbarError,
    Context,
    GroupWriter,
    NotFound,
    RuleViolated,
    in_transaction,
    ticket_reference,
    transaction,
    uuid7,
)
from busbar_mm import reorder
from busbar_mm.books import Book, Posting, check
from busbar_mm.ledger import Movement, open_books, write


class Posted(msgspec.Struct, frozen=True, kw_only=True):
    """What was posted."""

    transaction_id: UUID
    new_quantity: Decimal
    """Of the material, at all its locations together."""


class _Request(msgspec.Struct, frozen=True):
    ctx: Context
    posting: Posting


async def post(ctx: Context, posting: Posting) -> Posted:
    """Change stock, sharing a transaction with other postings that wait; inside a transaction, as part of it.

    Ledger, stock, audit entry, event, and what the reorder rule makes of it are written together or not at all.

    Raises:
        InvalidPayload: the sign does not agree with the type, or a field does not belong to it.
        NotFound: there is no such material or ticket at the actor's sites.
        RuleViolated: there is too little at the location, or the ticket is cancelled.
        Unavailable: too many writes wait; nothing was written.
    """
    ctx.require("mm.write")
    check(posting)
    if posting.ticket_id is not None:
        await _check_ticket(ctx, posting.ticket_id)
    if not in_transaction():
        return await _WRITER.submit(_Request(ctx, posting))
    (posted,) = await post_many(ctx, [posting])
    return posted


async def post_many(ctx: Context, postings: Sequence[Posting]) -> Sequence[Posted]:
    """Change stock by all of these postings, in their order, or by none of them.

    Raises:
        InvalidPayload, NotFound, RuleViolated: as with `post`, for the first that is refused.
    """
    ctx.require("mm.write")
    for posting in postings:
        check(posting)
    async with transaction():
        outcomes = await _post([_Request(ctx, posting) for posting in postings])
        for outcome in outcomes:
            if isinstance(outcome, BaseException):
                raise outcome
    return [outcome for outcome in outcomes if isinstance(outcome, Posted)]


async def _check_ticket(ctx: Context, ticket_id: str) -> None:
    ticket = await ticket_reference(ctx, ticket_id)
    if ticket.status == "Cancelled":
        raise RuleViolated(f"The ticket {ticket_id} is cancelled; nothing is issued to it.")


async def _post(requests: Sequence[_Request]) -> list[Posted | BaseException]:
    async with transaction():
        books = await open_books(request.posting.material_id for request in requests)
        closed = await _closed(book.site_id for book in books.values())
        outcomes = [_try(books, closed, request) for request in requests]
        movements = [outcome for outcome in outcomes if isinstance(outcome, Movement)]
        if movements:
            await write(books, movements)
            # The posting that falls below the level is the one that reorders, with its correlation id.
            fell = [move for move in movements if _is_below(books, move)]
            await reorder.look_at([(move.ctx, books[move.posting.material_id]) for move in fell])
    return [
        Posted(transaction_id=outcome.transaction_id, new_quantity=outcome.lines[-1].new_quantity)
        if isinstance(outcome, Movement)
        else outcome
        for outcome in outcomes
    ]


def _is_below(books: dict[str, Book], move: Movement) -> bool:
    return move.lines[-1].new_quantity < books[move.posting.material_id].reorder_level


async def _closed(sites: Iterable[str]) -> dict[str, NotFound]:
    """The sites among these at which there is no materials management, each with what is said of it."""
    closed = {}
    for site_id in set(sites):
        try:
            await SITES.require(site_id, "mm")
        except NotFound as refused:
            closed[site_id] = refused
    return closed


def _try(books: dict[str, Book], closed: Mapping[str, NotFound], request: _Request) -> Movement | BaseException:
    """What a posting does to the book of its material, or why it is refused."""
    posting, ctx = request.posting, request.ctx
    book = books.get(posting.material_id)
    if book is None or not ctx.actor.sees_site(book.site_id):
        return NotFound(f"There is no material {posting.material_id}.")
    if book.site_id in closed:
        return closed[book.site_id]
    try:
        lines = book.post(posting)
    except BusbarError as refused:
        return refused
    now = ctx.clock()
    book.posted_at = now if book.posted_at is None else max(now, book.posted_at)
    return Movement(ctx=ctx, transaction_id=uuid7(), posting=posting, lines=lines, posted_at=book.posted_at)


_WRITER: GroupWriter[_Request, Posted] = GroupWriter(_post, name="stock")
