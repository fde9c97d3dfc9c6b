"""What the client's errors mean for a delivery: one sentence each, with the cause and, where there is one, the cure."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

from busbar.sdk import AuthExpired, EgressRefused, Endpoint, Permanent, RateLimited, Retryable, failure_of
from busbar_crm import answers
from busbar_crm.settings import CrmSettings


@contextmanager
def translated(endpoint: Endpoint, *, changing: bool) -> Iterator[None]:
    """Turn the errors of the client into those of the connector contract, without the endpoint's secrets.

    `changing` says that the block writes: only then can an answer that never came hide an effect.
    """
    said = endpoint.secrets.redacted
    try:
        yield
    except answers.AuthExpired as error:
        raise AuthExpired(f"{said(str(error))}. Enter new credentials for {endpoint.name}.") from error
    except answers.QuotaExceeded as error:
        until = endpoint.clock() + timedelta(seconds=error.retry_after_s)
        raise RateLimited(f"Salesforce's quota is used up ({said(str(error))}).", until=until) from error
    except answers.RemoteUnavailable as error:
        raise Retryable(
            f"Salesforce gave no usable answer. {said(str(error))}",
            after_s=error.retry_after_s,
            uncertain=changing and error.uncertain,
        ) from error
    except answers.ManyRecords as error:
        settings: CrmSettings = endpoint.settings
        raise Permanent(
            f"{len(error.ids)} Cases carry one external id: {', '.join(error.ids)}. Merge them, and make "
            f"{settings.external_id_field} a unique field, so that it cannot happen again."
        ) from error
    except answers.Refused as error:
        raise Permanent(f"Salesforce refused: {said(str(error))}{_cure(error, endpoint.settings)}") from error
    except EgressRefused as error:
        raise failure_of(error) from error


def _cure(error: answers.Refused, settings: CrmSettings) -> str:
    if error.code in ("INVALID_FIELD", "NOT_FOUND", "INVALID_FIELD_FOR_INSERT_UPDATE"):
        return (
            f". Make the fields {settings.external_id_field} (Text, External ID, Unique) and {settings.marker_field} "
            "(Text 255) on Case, and let the integration user read and write them."
        )
    if error.code == "INVALID_OR_NULL_FOR_RESTRICTED_PICKLIST":
        return ". Name values of the organization's own lists in the endpoint's settings or the route's mapping."
    if error.code in ("INSUFFICIENT_ACCESS", "INSUFFICIENT_ACCESS_OR_READONLY"):
        return ". Give the integration user access to Cases."
    if error.code == "API_DISABLED_FOR_ORG":
        return ". The organization's edition, or the integration user, has no access to the API."
    return ""
