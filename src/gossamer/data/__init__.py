"""Tasks: an embedded default, real data sets and a user's data, each with features and noise."""

from gossamer.data.arrays import arrays, from_dataset
from gossamer.data.augmentation import Augmentation, AugmentationSettings
from gossamer.data.corruptions import Corruption, corruptions
from gossamer.data.features import LogMel
from gossamer.data.mnist import mnist
from gossamer.data.own import from_code, task_of
from gossamer.data.registry import TASKS, load
from gossamer.data.sound_folder import from_folder
from gossamer.data.speech_commands import speech_commands
from gossamer.data.spoken_digits import spoken_digits
from gossamer.data.spoken_words import spoken_words
from gossamer.data.task import NOISE_LEVELS, Split, Task

__all__ = [
    "NOISE_LEVELS",
    "TASKS",
    "Augmentation",
    "AugmentationSettings",
    "Corruption",
    "LogMel",
    "Split",
    "Task",
    "arrays",
    "corruptions",
    "from_code",
    "from_dataset",
    "from_folder",
    "load",
    "mnist",
    "speech_commands",
    "spoken_digits",
    "spoken_words",
    "task_of",
]
__dir__ = __all__.copy
