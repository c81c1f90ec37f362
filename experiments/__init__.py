"""Scripts that a person runs, `python -m experiments.<name>`."""

import logging
import os
import warnings

# TensorFlow and an old dependency of TFF greet every program with pages of advice.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
logging.getLogger("tensorflow").setLevel(logging.ERROR)
warnings.filterwarnings("ignore", message="pkg_resources is deprecated")
# TensorFlow uses oneDNN by itself only where a processor has AVX512-VNNI; it is as right and
# faster on others (experiments/benchmarks).
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
