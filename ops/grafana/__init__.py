"""The Grafana dashboards as code; `.venv/bin/python -m ops.grafana` writes them. Start reading at `overview`."""
