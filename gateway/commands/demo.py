"""The demo upstream, alone and as the only upstream of a configuration."""

from gateway.config import Config, Model, TargetName, Upstream
from gateway.demo.models import BACKUP, MODELS, RESCUES


def demo_config(base_url: str) -> Config:
    models = [_demo_model(name) for name in MODELS if name != BACKUP]
    return Config(upstreams=[Upstream(name="demo", base_url=base_url)], models=models)


def _demo_model(name: str) -> Model:
    second = [TargetName(upstream="demo", model=BACKUP)] if name in RESCUES else []
    return Model(name=name, targets=[TargetName(upstream="demo"), *second], same_answer=RESCUES.get(name, False))
