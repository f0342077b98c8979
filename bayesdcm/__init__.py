"""Dynamic causal modelling as probabilistic programming.

A generative model of brain signals is one NumPyro program; variational Laplace, stochastic
variational inference and NUTS read that same program; every result is an ArviZ object.

>>> import bayesdcm
>>> "fit" in dir(bayesdcm)
True
"""

import lazy_loader

from bayesdcm import _configuration

_configuration.configure()

__version__ = "0.1.0"

# The public names stand in __init__.pyi. Each is imported when it is first used, so that
# `import bayesdcm` and `bayesdcm --help` do not pay for JAX.
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
