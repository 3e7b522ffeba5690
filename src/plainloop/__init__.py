"""Fine-tune Hugging Face text classifiers with a training loop that you can read and own.

The public names are listed in `__init__.pyi`. Modules are imported when one of their names is first
used, so that `import plainloop` does not import torch.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)

__version__ = "0.1.0"
