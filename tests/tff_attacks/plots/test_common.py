import numpy as np

from tff_attacks.plots import common


def test_grid_places_every_image():
  images = np.linspace(-1, 0.9, 6)[:, None, None, None] * np.ones([6, 4, 5, 1])
  picture = common.grid(images, columns=3)
  assert picture.shape == (2 * 6, 3 * 7, 1)
  for index in range(6):
    row, column = divmod(index, 3)
    part = picture[row * 6 + 1 : row * 6 + 5, column * 7 + 1 : column * 7 + 6]
    np.testing.assert_allclose(part, (images[index] + 1) / 2)
  assert (picture[0] == 1).all()
  assert common.grid(images[:4], columns=3).shape == picture.shape
