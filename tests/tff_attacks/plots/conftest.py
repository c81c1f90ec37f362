import pytest
from matplotlib import pyplot as plt


@pytest.fixture
def folder(tmp_path):
  """A results folder to draw into."""
  (tmp_path / "images").mkdir()
  return tmp_path


@pytest.fixture
def axes_of(monkeypatch):
  """The axes of the figure that a call draws."""
  figures = []
  monkeypatch.setattr(plt, "close", figures.append)

  def draw(function, *arguments):
    function(*arguments)
    return figures.pop().axes

  return draw
