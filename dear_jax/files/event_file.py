"""Event files for TensorBoard, without TensorFlow: records and protocol buffers of tensorboardX, in the workdir.

Every start of a run writes the rows that it keeps into a new file and removes the earlier one, so that no step is
there twice.
"""

import socket
import struct
import time
from collections.abc import Iterator, Sequence

from etils import epath
from tensorboardX.proto.event_pb2 import Event, SessionLog
from tensorboardX.proto.summary_pb2 import Summary
from tensorboardX.record_writer import masked_crc32c

from dear_jax.files import storage
from dear_jax.files.growing_file import GrowingFile
from dear_jax.files.live_metrics import Row, numbers

PREFIX = "events.out.tfevents."  # by which TensorBoard finds them


class EventFile:
    """The event file of a run; see `live_metrics.Sink`."""

    def __init__(self, folder: epath.Path, seeds: Sequence[int]) -> None:
        self._folder, self._seeds = folder, seeds
        self._file = GrowingFile(folder / f"{PREFIX}{time.time_ns()}.{socket.gethostname()}")

    def begin(self, earlier: Sequence[Row], kept: Sequence[Row]) -> None:
        """A new file with the rows of earlier starts that stay."""
        # A TensorBoard that is looking on forgets what it has read of the file before.
        start = Event(step=0, session_log=SessionLog(status=SessionLog.START))
        records = [_record(Event(file_version="brain.Event:2")), _record(start)]
        self._file.replace(b"".join([*records, *(piece for row in kept for piece in self._records(row))]))
        for name in storage.entries(self._folder)[1]:
            if name.startswith(PREFIX) and name != self._file.path.name:
                (self._folder / name).unlink(missing_ok=True)

    def write(self, row: Row) -> None:
        """Add a row."""
        self._file.append(b"".join(self._records(row)))

    def flush(self) -> None:
        """Have every row where TensorBoard finds it."""
        self._file.flush()

    def close(self) -> None:
        """The same."""
        self.flush()

    def _records(self, row: Row) -> Iterator[bytes]:
        values = [Summary.Value(tag=tag, simple_value=number) for tag, number in numbers(row, self._seeds).items()]
        yield _record(Event(step=int(row["step"]), summary=Summary(value=values)))


def _record(event: Event) -> bytes:
    """TFRecord's form: the length and the content, each with its checksum."""
    event.wall_time = time.time()
    content = event.SerializeToString()
    length = struct.pack("<Q", len(content))
    checksums = (struct.pack("<I", masked_crc32c(part)) for part in (length, content))
    return length + next(checksums) + content + next(checksums)
