"""Who holds how much of which class.

A partition is a table: `int [clients, classes]`, the number of images of each
class that each client holds. It is drawn first, checked, saved with the run, and
only then filled with images by `assign`.
"""

from collections.abc import Callable, Collection, Sequence
from typing import NamedTuple

import numpy as np

# Which classes a client must lack to be the adversary: G and T, G, or none.
LACKS = ("both", "reconstruct", "none")


def one_class(num_clients: int, num_classes: int, images_per_class: int) -> np.ndarray:
  """Client k holds the images of class k (mod C), shared if others do: alpha = 0.

  Args:
    num_clients: Number of clients.
    num_classes: Number of classes, C.
    images_per_class: Images of each class to hand out.

  Returns:
    int `[clients, classes]`, how many images of each class each client holds.
  """
  table = np.zeros([num_clients, num_classes], int)
  holders = np.bincount(np.arange(num_clients) % num_classes, minlength=num_classes)
  for client in range(num_clients):
    label = client % num_classes
    table[client, label] = images_per_class // holders[label]
  return table


def shards(num_clients: int, num_classes: int, images_per_class: int) -> np.ndarray:
  """Two neighbouring classes per client, each class split among its clients.

  With 10 clients and 10 classes: clients 0 and 1 share classes 0 and 1, clients 2
  and 3 share classes 2 and 3, and so on. Arguments and table as in `one_class`.
  """
  table = np.zeros([num_clients, num_classes], int)
  pairs = num_classes // 2
  holds = np.zeros([num_clients, num_classes], bool)
  for client in range(num_clients):
    pair = client * pairs // num_clients
    holds[client, 2 * pair : 2 * pair + 2] = True
  for label in range(num_classes):
    holders = np.flatnonzero(holds[:, label])
    if holders.size:
      table[holders, label] = images_per_class // holders.size
  return table


def iid(num_clients: int, num_classes: int, images_per_class: int) -> np.ndarray:
  """Every client holds as many images of every class; arguments and table as in `one_class`."""
  return np.full([num_clients, num_classes], images_per_class // num_clients)


FIXED = {"one_class": one_class, "shards": shards, "iid": iid}
"""Partitions without randomness, by name."""


def dirichlet(
  rng: np.random.Generator,
  alpha: float,
  num_clients: int,
  num_classes: int,
  images_per_class: int,
) -> np.ndarray:
  """One draw of class proportions from Dir(alpha), every client equally large.

  Clients are filled one after another: a draw of proportions is floored and capped
  by what remains of each class, and redrawn until the client is full; fewer than 6
  missing images (0.6 C, if that is less) come from the fullest class. So far this is what the
  CRPA study's code does, which never ends where every class's share is below one: then fewer
  than 10 come from the fullest class, too, and more are drawn one by one.

  Args:
    rng: Source of randomness.
    alpha: Concentration, above 0; small values give skewed clients.
    num_clients: Number of clients.
    num_classes: Number of classes, C.
    images_per_class: Images of each class to hand out.

  Returns:
    The table, `int [num_clients, num_classes]`.
  """
  remaining = np.full(num_classes, images_per_class)
  size = images_per_class * num_classes // num_clients
  table = np.zeros([num_clients, num_classes], int)
  for client in range(num_clients):
    while (missing := size - table[client].sum()) > 0:
      shares = rng.dirichlet(np.full(num_classes, alpha))
      drawn = np.floor(shares * missing).astype(int)
      if missing < min(6, 0.6 * num_classes) or (missing < 10 and not drawn.any()):
        drawn = np.where(np.arange(num_classes) == np.argmax(remaining), missing, 0)
      elif not drawn.any():
        drawn = rng.multinomial(missing, shares)
      drawn = np.minimum(drawn, remaining)
      table[client] += drawn
      remaining -= drawn
  return table


NAMES = (*FIXED, "dirichlet")


def unequal(table: np.ndarray, sigma: float, rng: np.random.Generator) -> np.ndarray:
  """Makes clients differ in size: their shares of a table are log-normal.

  Args:
    table: `int [clients, classes]`.
    sigma: Standard deviation of the logarithm; 0 leaves the table as it is.
    rng: Source of randomness.

  Returns:
    The table of what is left: of every class the same share of what a client held, all of it
    for one client, and at least one image of what it held.
  """
  shares = rng.lognormal(sigma=sigma, size=len(table))
  left = np.floor(table * (shares / shares.max())[:, np.newaxis]).astype(int)
  return np.maximum(left, np.minimum(table, 1))


class Split(NamedTuple):
  """A partition with its adversaries.

  Attributes:
    table: `int [clients, classes]`, images per client and class.
    adversaries: Indices of the malicious clients.
    draws: Number of tables drawn until one held fit adversaries (1 if not random).
  """

  table: np.ndarray
  adversaries: list[int]
  draws: int

  @property
  def adversary(self) -> int:
    """The first of them."""
    return self.adversaries[0]


def fit_adversaries(table: np.ndarray, reconstruct: int, poison: int, lacks: str) -> np.ndarray:
  """Returns the clients that hold none of the classes named by `lacks`.

  Args:
    table: `int [clients, classes]`.
    reconstruct: Class G.
    poison: Class T.
    lacks: 'both' (neither G nor T), 'reconstruct' (no G, as in the CRPA study's
      code) or 'none' (any client).

  Returns:
    Indices of clients, ascending.
  """
  classes = {"both": [reconstruct, poison], "reconstruct": [reconstruct], "none": []}[lacks]
  return np.flatnonzero((table[:, classes] == 0).all(axis=1))


def search(
  draw: Callable[[], np.ndarray],
  reconstruct: int,
  poison: int,
  lacks: str,
  max_draws: int,
  adversary: int | None = None,
  count: int = 1,
) -> Split:
  """Draws tables until one has as many clients fit to be adversaries as are wanted.

  Args:
    draw: Returns a new table at each call.
    reconstruct: Class G.
    poison: Class T.
    lacks: See `fit_adversaries`.
    max_draws: Give up after so many tables.
    adversary: A client that shall be fit, and first; None takes the first fit one.
    count: Number of adversaries.

  Returns:
    The first table found, and its adversaries.

  Raises:
    ValueError: If none was found.
  """
  for draws in range(1, max_draws + 1):
    table = draw()
    fit = fit_adversaries(table, reconstruct, poison, lacks).tolist()
    if adversary is not None:
      fit = [adversary, *(i for i in fit if i != adversary)] if adversary in fit else []
    if len(fit) >= count:
      return Split(table, fit[:count], draws)
  who = "no client lacks" if count == 1 else f"fewer than {count} clients lack"
  if adversary is not None:
    who = f"client {adversary}{' with enough others' if count > 1 else ''} does not lack"
  what = "both G and T" if lacks == "both" else "G"
  drawn = " a smaller alpha or a larger max_draws," if max_draws > 1 else ""
  raise ValueError(
    f"partition: {who} {what} in {max_draws} draw(s). Use another adversary,{drawn} "
    "adversary_lacks=reconstruct (T may be held) or adversary_lacks=none (G may be held, too)."
  )


def as_original(split: Split, poison: int) -> Split:
  """The published code's choice of adversary, with its faults.

  The client that lacks G becomes client 0, and client 0 attacks; but if T = 0, client 3
  attacks, whatever it holds.
  """
  table = split.table.copy()
  table[[0, split.adversary]] = table[[split.adversary, 0]]
  return Split(table, [3 if poison == 0 else 0], split.draws)


def random_samples(
  rng: np.random.Generator, total: int, num_clients: int, size: int
) -> list[np.ndarray]:
  """For each client the indices of `size` samples, drawn at random, each used once.

  Raises:
    ValueError: If there are not as many.
  """
  wanted = num_clients * size
  if wanted > total:
    raise ValueError(
      f"samples_per_client: {num_clients} clients need {wanted} images, the training set has "
      f"{total}"
    )
  return list(rng.permutation(total)[:wanted].reshape(num_clients, size))


def source_at_compromised(
  rng: np.random.Generator,
  labels: np.ndarray,
  owned: Sequence[np.ndarray],
  sources: Collection[int],
  compromised: Collection[int],
  share: float,
) -> list[np.ndarray]:
  """Leaves images of source classes to compromised clients alone.

  Every client loses its own. In those of a compromised client a `share` of what is left is then
  replaced by images of the sources, drawn from the whole training set; two such clients may have
  the same.

  Args:
    rng: Source of randomness.
    labels: `int [n]`, labels of the training set.
    owned: For each client the indices of its images.
    sources: The classes.
    compromised: The clients.
    share: Of source images at a compromised client.

  Returns:
    For each client the indices of its images.

  Raises:
    ValueError: If a client is left without images, or there are not enough of the sources.
  """
  of_source = np.isin(labels, list(sources))
  pool = np.flatnonzero(of_source)
  left = [indices[~of_source[indices]] for indices in owned]
  for client, others in enumerate(left):
    if not others.size:
      raise ValueError(f"honest_sources: client {client} has images of source classes only")
  for client in compromised:
    count = round(share * left[client].size)
    if count > pool.size:
      raise ValueError(
        f"injection_rate: {count} images of source classes are needed, the training set has "
        f"{pool.size}"
      )
    drawn = rng.choice(pool, count, replace=False)
    left[client] = np.concatenate([drawn, left[client][count:]])
  return left


def assign(labels: np.ndarray, table: np.ndarray, rng: np.random.Generator) -> list[np.ndarray]:
  """Fills a table with images, each used once.

  Args:
    labels: `int [n]`, labels of the training set.
    table: `int [clients, classes]`.
    rng: Source of randomness.

  Returns:
    For each client the indices of its images, shuffled.

  Raises:
    ValueError: If the table asks for more images of a class than there are.
  """
  owned: list[list[np.ndarray]] = [[] for _ in table]
  for label, wanted in enumerate(table.sum(axis=0)):
    pool = rng.permutation(np.flatnonzero(labels == label))
    if wanted > pool.size:
      raise ValueError(
        f"images_per_class: {wanted} images of class {label} are needed, the training set has "
        f"{pool.size}"
      )
    ends = np.cumsum(table[:, label])
    for client, (start, end) in enumerate(zip(ends - table[:, label], ends, strict=True)):
      owned[client].append(pool[start:end])
  return [rng.permutation(np.concatenate(parts)) for parts in owned]
