%dw 2.0
// An alarm of the control system, as Busbar takes an incident: POST /api/v1/pm/incidents.
output application/json skipNullOn = "everywhere"
var severities = {critical: "P1", major: "P2", minor: "P3", warning: "P4"}
var texts = {trip: "outage", overload: "degradation"}
---
{
    asset_id: payload.equipment,
    fault_type: texts[payload.kind default ""] default "fault",
    severity: severities[lower(payload.priority default "")] default "P3",
    description: payload.text,
    started_at: payload.raised_at,
    // The alarm's own id: Busbar does not take it twice at a site, whoever sends it.
    source_ref: payload.alarm_id
}
