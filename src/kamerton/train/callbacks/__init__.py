"""Lightning callbacks of a run. Configurations name the classes below as `kamerton.train.callbacks.NAME`."""

from kamerton.train.callbacks.progress import ModelSummary, ProgressBar
from kamerton.train.callbacks.recorder import Recorder
from kamerton.train.callbacks.stopping import SaveAndStop, StopRequest, stop_on_signal

__all__ = ["ModelSummary", "ProgressBar", "Recorder", "SaveAndStop", "StopRequest", "stop_on_signal"]
