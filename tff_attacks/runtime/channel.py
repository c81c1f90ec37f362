"""Connections to TFF workers, over gRPC without authentication or encryption."""

import contextlib
import time
from collections.abc import Iterator

import grpc

_OPTIONS = [
  ("grpc.max_receive_message_length", -1),
  ("grpc.max_send_message_length", -1),
  # Without it, a host that vanishes is never missed. Servers take a ping every 5 minutes
  # and hang up if there are more.
  ("grpc.keepalive_time_ms", 330_000),
  ("grpc.keepalive_timeout_ms", 20_000),
]
# gRPC's own thread looks every 0.2 s whether somebody still watches the connection.
_WATCH_SECONDS = 0.3


@contextlib.contextmanager
def open_channel(address: str) -> Iterator[grpc.Channel]:
  """A channel that closes quietly.

  TFF's executor stub watches its channel and never stops; closed under it, gRPC's thread
  prints a traceback.

  Args:
    address: `host:port`.

  Yields:
    The channel, for messages of any size.
  """
  with grpc.insecure_channel(address, _OPTIONS) as channel:
    subscribe, watchers = channel.subscribe, []

    def subscribe_and_note(callback, try_to_connect=False):
      watchers.append(callback)
      subscribe(callback, try_to_connect)

    channel.subscribe = subscribe_and_note
    try:
      yield channel
    finally:
      for callback in watchers:
        channel.unsubscribe(callback)
      time.sleep(_WATCH_SECONDS)
