"""A site's rules for requests that come by themselves: up to which amount who decides, and when they are reminded."""

from collections.abc import Sequence
from decimal import Decimal
from typing import Final

import msgspec

from busbar.sdk import (
    ANY_VERSION,
    Context,
    FieldError,
    IfMatch,
    InvalidPayload,
    execute,
    fetch,
    fetchrow,
    module_scope,
    record,
    require_people,
    transaction,
)

DEFAULT_HIERARCHY: Final = ("role:Finance_Officer",)
"""Who decides where a site has no rules."""
REMIND_AFTER_H: Final = 24
"""After how many hours approvers are reminded where a site says nothing."""
LEVELS_MAX: Final = 10


class ApprovalRule(msgspec.Struct, frozen=True, kw_only=True):
    """Up to an amount, these decide, in order; without an amount, for whatever is above the others."""

    up_to: Decimal | None
    approvers: tuple[str, ...]


class ApprovalPolicy(msgspec.Struct, frozen=True, kw_only=True):
    """How a site has its requests decided."""

    site: str
    remind_after_h: int
    rules: tuple[ApprovalRule, ...]
    """By amount, the one without an amount last; empty where the site has none, and finance officers decide."""
    version: int
    """0 while the site has said nothing."""


async def read(ctx: Context, site_id: str) -> ApprovalPolicy:
    """The rules of a site.

    Raises:
        NotFound: the site is not the actor's, or lacks finance.
    """
    await module_scope(ctx, "fi", site_id)
    return await policy_of(site_id)


async def replace(
    ctx: Context, site_id: str, *, rules: Sequence[ApprovalRule], remind_after_h: int, expected: IfMatch = ANY_VERSION
) -> int:
    """Set all rules of a site at once; returns their new version.

    Raises:
        NotFound: the site is not the actor's, or lacks finance.
        StaleVersion: somebody else set them meanwhile.
        InvalidPayload: an amount or an approver is named twice, an approver does not exist, or amounts are left over.
    """
    ctx.require("fi.write")
    await module_scope(ctx, "fi", site_id)
    await _check(rules, site_id=site_id)
    async with transaction():
        await execute(
            "insert into fi.approval_policy (site_id, version) values ($1, 0) on conflict do nothing", site_id
        )
        old = await fetchrow("select version from fi.approval_policy where site_id = $1 for update", site_id)
        assert old is not None, "inserted just now"
        expected.require(old["version"])
        await execute(
            "update fi.approval_policy set remind_after_h = $2, version = version + 1 where site_id = $1",
            site_id,
            remind_after_h,
        )
        await execute("delete from fi.approval_rule where site_id = $1", site_id)
        for rule in rules:
            await execute(
                "insert into fi.approval_rule (site_id, up_to, approvers) values ($1, $2, $3)",
                site_id,
                rule.up_to,
                list(rule.approvers),
            )
        await record(
            ctx,
            action="approval_rules.replace",
            object_kind="site",
            object_id=site_id,
            site_id=site_id,
            details={"remind_after_h": remind_after_h, "rules": msgspec.to_builtins(tuple(rules))},
        )
    return int(old["version"]) + 1


async def policy_of(site_id: str) -> ApprovalPolicy:
    """The rules of a site, whoever asks."""
    policy = await fetchrow("select remind_after_h, version from fi.approval_policy where site_id = $1", site_id)
    rows = await fetch(
        "select up_to, approvers from fi.approval_rule where site_id = $1 order by up_to nulls last", site_id
    )
    return ApprovalPolicy(
        site=site_id,
        remind_after_h=policy["remind_after_h"] if policy else REMIND_AFTER_H,
        rules=tuple(ApprovalRule(up_to=row["up_to"], approvers=tuple(row["approvers"])) for row in rows),
        version=policy["version"] if policy else 0,
    )


async def hierarchy_for(site_id: str, amount: Decimal, *, requester: str) -> tuple[str, ...]:
    """Who decides about an amount that `requester` needs, in order.

    A level that names the requester is left out, for nobody decides about their own; when none remains, finance
    officers decide.
    """
    for rule in (await policy_of(site_id)).rules:
        if rule.up_to is None or amount <= rule.up_to:
            return tuple(name for name in rule.approvers if name != requester) or DEFAULT_HIERARCHY
    return DEFAULT_HIERARCHY


async def _check(rules: Sequence[ApprovalRule], *, site_id: str) -> None:
    errors = []
    seen: set[Decimal | None] = set()
    for n, rule in enumerate(rules):
        if rule.up_to in seen:
            errors.append(FieldError(field=f"rules[{n}].up_to", message="is the amount of another rule too"))
        seen.add(rule.up_to)
        if len(set(rule.approvers)) != len(rule.approvers):
            errors.append(FieldError(field=f"rules[{n}].approvers", message="names somebody twice"))
    if rules and None not in seen:
        errors.append(FieldError(field="rules", message="needs one without up_to, for whatever is above the others"))
    if errors:
        raise InvalidPayload("The rules cannot be used.", errors=errors)
    for n, rule in enumerate(rules):
        await require_people(rule.approvers, field=f"rules[{n}].approvers", site_id=site_id)
