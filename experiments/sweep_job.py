"""A Hydra job of a sweep: one chunk of its runs. `experiments.sweep` starts it."""

import hydra


@hydra.main(version_base="1.3", config_path="conf", config_name="sweep_job")
def main(config):
  """Runs a chunk; a launcher may call it in another process or on another host."""
  from tff_attacks.runtime import parent

  parent.die_with_parent()  # Before TensorFlow takes seconds to import.
  from experiments import chunk

  chunk.run(config.sweep, config.chunks, config.chunk)


if __name__ == "__main__":
  main()
