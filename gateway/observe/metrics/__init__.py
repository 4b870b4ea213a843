"""What the process has done, as metrics for Prometheus. The only room that knows `prometheus_client`.

The names are those of OpenTelemetry's conventions for generative AI, in the spelling of Prometheus, and names of the
gateway's own. Nothing is counted per event.

https://github.com/open-telemetry/semantic-conventions-genai/blob/main/docs/gen-ai/gen-ai-metrics.md
"""

from gateway.observe.metrics.gauges import Gauge
from gateway.observe.metrics.metrics import CONTENT_TYPE, Metrics, PassedOn
from gateway.observe.metrics.sharing import forget_gauges, share

__all__ = ["CONTENT_TYPE", "Gauge", "Metrics", "PassedOn", "forget_gauges", "share"]
