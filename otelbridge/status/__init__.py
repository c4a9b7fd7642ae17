"""One view of the bridge's state: /livez, /readyz, /startupz, /metrics, /status (JSON) and the status page."""
