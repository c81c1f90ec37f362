"""Shapes that several networks share."""


def quarter(image_shape: tuple[int, int, int]) -> tuple[int, int]:
  """A quarter of the height and width, where a generator that doubles them twice begins.

  Raises:
    ValueError: If the height or width is not divisible by 4.
  """
  height, width, _ = image_shape
  if height % 4 or width % 4:
    raise ValueError(f"The generator needs sides divisible by 4, found {height}x{width}.")
  return height // 4, width // 4
