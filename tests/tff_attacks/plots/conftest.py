import pytest
from matplotlib import pyplot as plt


@pytest.fixture
def axes_of(monkeypatch):
  """The axes of the figure that a call draws."""
  figures, close = [], plt.close
  monkeypatch.setattr(plt, "close", figures.append)

  def draw(function, *arguments):
    function(*arguments)
    close(figures[-1])
    return figures.pop().axes

  return draw
