"""Scripts that a person runs, `python -m experiments.<name>`."""

import logging
import os
import warnings

# TensorFlow and an old dependency of TFF greet every program with pages of advice.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
logging.getLogger("tensorflow").setLevel(logging.ERROR)
warnings.filterwarnings("ignore", message="pkg_resources is deprecated")
