"""What the client's errors mean for a delivery: one sentence each, with the cause and, where there is one, the cure."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

from busbar.sdk import AuthExpired, EgressRefused, Endpoint, Permanent, RateLimited, Retryable, failure_of
from busbar_itsm import answers


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
        raise RateLimited(f"ServiceNow's quota is used up ({error}).", until=until) from error
    except answers.RemoteUnavailable as error:
        uncertain = changing and error.uncertain
        raise Retryable(
            f"ServiceNow gave no usable answer. {error}", after_s=error.retry_after_s, uncertain=uncertain
        ) from error
    except answers.QueryIgnored as error:
        raise Permanent(
            f"ServiceNow dropped our search condition, so Busbar cannot tell its own records from others. {error} "
            "Let the integration user read correlation_id, and set glide.invalid_query.returns_no_rows to true."
        ) from error
    except answers.Refused as error:
        raise Permanent(f"ServiceNow refused: {error}") from error
    except EgressRefused as error:
        raise failure_of(error) from error
