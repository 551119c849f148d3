"""Tasks as users of Transformers know them, on models that run on shares; `pipeline` is the entry point."""

from onnxpuma.tasks.build import calibration, pipeline, tasks_of
from onnxpuma.tasks.plain import PlainRunner
from onnxpuma.tasks.port import Runner, Usage
from onnxpuma.tasks.secure import SecureRunner

__all__ = ["PlainRunner", "Runner", "SecureRunner", "Usage", "calibration", "pipeline", "tasks_of"]
