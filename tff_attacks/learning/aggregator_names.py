"""What `aggregation.build_aggregator` can build; apart, as options list it without TensorFlow."""

MEANS = ("mean", "nonempty_mean", "examples_weighted_mean")
"""Those that assume nothing of the clients, and defend nobody."""

NOISY = ("dp", "adaptive_dp")
"""Those with noise, see `privacy.clients`."""

BOUNDED = (
  "norm_filter", "norm_clipping", "adaptive_norm_clipping", "centered_clipping", *NOISY,
)  # fmt: skip
"""Those that need a `norm_bound`."""

NAMES = (
  *MEANS, *BOUNDED, "coordinate_median", "trimmed_mean", "geometric_median", "krum", "multi_krum",
  "bulyan",
)  # fmt: skip
