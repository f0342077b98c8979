__version__: str

__all__ = [
    "BoldData",
    "BoldDesign",
    "EvokedDCM",
    "EvokedData",
    "Fit",
    "TaskDCM",
    "compare",
    "compare_posteriors",
    "data",
    "fit",
    "infer",
    "integrate",
    "load_example",
    "load_fit",
    "models",
    "neural",
    "observe",
    "plot",
    "read_spm_dcm",
    "reduce",
    "search_reduced",
    "select_models",
]

from . import compare, data, infer, integrate, models, neural, observe, plot
from .compare.posteriors import compare_posteriors
from .compare.reduction import reduce
from .compare.search import search_reduced
from .compare.selection import select_models
from .data.bold import BoldData
from .data.design import BoldDesign
from .data.evoked import EvokedData
from .infer.fitting import fit
from .infer.results import Fit
from .infer.storage import load_fit
from .models.evoked import EvokedDCM
from .models.examples import load_example
from .models.spm import read_spm_dcm
from .models.task import TaskDCM
