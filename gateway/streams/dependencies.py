"""The dependencies with which answers are asked for. All streams share them until the configuration changes."""

from dataclasses import dataclass

from gateway.admission.descriptors import Descriptors
from gateway.config import Config
from gateway.upstream.client import UpstreamClient
from gateway.upstream.routing import Target
from gateway.upstream.targets import Targets


@dataclass(frozen=True, slots=True)
class Dependencies:
    client: UpstreamClient
    targets: Targets
    descriptors: Descriptors
    config: Config

    def start(self, target: Target) -> None:
        """An attempt on the target begins."""
        self.targets.start(target)
        self.descriptors.add_upstream()

    def end(self, target: Target) -> None:
        """An attempt on the target has ended, and its connection is closed or free."""
        self.targets.end(target)
        self.descriptors.drop_upstream()
