-- Outages of a site by time, for reliability indices and the lists behind them.

create index incident_outage on pm.incident (site_id, started_at) where fault_type = 'outage';
