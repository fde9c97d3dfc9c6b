"""What the client's errors mean for a delivery: one sentence each, with the cause and, where there is one, the cure."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

from busbar.sdk import AuthExpired, EgressRefused, Endpoint, Permanent, RateLimited, Retryable, failure_of
from busbar_erp import answers


@contextmanager
def translated(endpoint: Endpoint, *, changing: bool) -> Iterator[None]:
    """Turn the errors of the client into those of the connector contract.

    `changing` says that the block writes: only then can an answer that never came hide an effect.
    """
    try:
        yield
    except answers.AuthExpired as error:
        raise AuthExpired(f"{error}. Enter new credentials for {endpoint.name}.") from error
    except answers.RateLimited as error:
        until = endpoint.clock() + timedelta(seconds=error.retry_after_s)
        raise RateLimited(f"SAP lets no more requests through ({error}).", until=until) from error
    except answers.RemoteUnavailable as error:
        uncertain = changing and error.uncertain
        raise Retryable(
            f"SAP gave no usable answer. {error}", after_s=error.retry_after_s, uncertain=uncertain
        ) from error
    except answers.Stale as error:
        raise Retryable(f"Somebody keeps changing the document in SAP ({error}).", after_s=1.0) from error
    except answers.Refused as error:
        if error.status is None:
            raise Permanent(f"This cannot be sent to SAP: {error}") from error
        cure = ""
        if error.status == 403:
            cure = " Give the user the authorization, or activate the service."
        raise Permanent(f"SAP refused: {error}.{cure}") from error
    except EgressRefused as error:
        raise failure_of(error) from error
