from __future__ import annotations

from hypothesis import HealthCheck, settings

# How long it takes to make an example says something about the machine's other work, not about the code.
settings.register_profile("any machine", suppress_health_check=[HealthCheck.too_slow], deadline=None)
settings.load_profile("any machine")
