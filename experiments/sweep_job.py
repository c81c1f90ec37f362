"""A Hydra job of a sweep: one chunk of its runs. `experiments.sweep` starts it."""

import hydra


@hydra.main(version_base="1.3", config_path="conf", config_name="sweep_job")
def main(config):
  """Runs a chunk; a launcher may call it in another process or on another host."""
  from experiments import chunk

  chunk.run(config.sweep, config.chunk)


if __name__ == "__main__":
  main()
