%dw 2.0
// An event of Busbar's for whatever stands behind Mule: a CloudEvent from the queue, or the body of a webhook, which
// has the same in other words unless the endpoint's setting `payload` is `cloudevent`.
output application/json skipNullOn = "everywhere"
---
{
    id: payload.id,
    what: payload."type",
    site: payload.site,
    about: payload.subject,
    at: payload.time default payload.timestamp,
    correlation_id: payload.correlationid default payload.correlation_id,
    details: payload.data
}
