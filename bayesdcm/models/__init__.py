"""Models that users name: generative programs assembled from the other rooms."""

from bayesdcm.models.task import TaskDCM

__all__ = ["TaskDCM"]
