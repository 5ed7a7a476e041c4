"""An emulated bucket: gs:// paths lead to a server in this process, for gcsfs, Orbax and TensorStore alike."""

import threading
import uuid
from http import HTTPStatus, server

import pytest
from etils import epath
from gcp_storage_emulator import server as emulator
from gcp_storage_emulator.exceptions import NotFound
from gcp_storage_emulator.handlers import buckets, objects
from gcp_storage_emulator.storage import Storage

ONE_AT_A_TIME = threading.Lock()  # a condition is checked and its write done as one


def generation(storage, params, query):
    """The number of the object's present content; 0 where there is no object."""
    name = params.get("object_id") or query["name"][0]
    try:
        return int(storage.get_file_obj(params["bucket_name"], name)["generation"])
    except NotFound:
        return 0


def conditional(handler):
    """What the emulator lacks and TensorStore's writes rest on: preconditions, and the generation of a download."""

    def handle(request, response, storage, *arguments, **options):
        with ONE_AT_A_TIME:
            answer(request, response, storage, *arguments, **options)

    def answer(request, response, storage, *arguments, **options):
        media = request.query.get("alt") == ["media"]
        if media or request.query.get("uploadType") == ["media"]:
            found = generation(storage, request.params, request.query)
            if request.query.get("ifGenerationMatch", [str(found)]) != [str(found)]:
                response.status = HTTPStatus.PRECONDITION_FAILED
                return
            if request.query.get("ifGenerationNotMatch") == [str(found)]:
                response.status = HTTPStatus.NOT_MODIFIED
                return
            if media and found:
                response["x-goog-generation"] = str(found)
        handler(request, response, storage, *arguments, **options)

    return handle


def move(request, response, storage, *arguments, **options):
    """The emulator lacks objects.moveTo, which gcsfs renames by."""
    request.params["dest_bucket_name"] = request.params["bucket_name"]
    objects.copy(request, response, storage)
    storage.delete_file(request.params["bucket_name"], request.params["object_id"])


MOVE = (
    r"^/storage/v1/b/(?P<bucket_name>[-.\w]+)/o/(?P<object_id>.*[^/]+)/moveTo/o/(?P<dest_object_id>.*[^/]+)$",
    {"POST": conditional(move)},
)


class Handler(emulator.RequestHandler):
    """One request to the one storage of all tests, in memory."""

    storage = Storage(use_memory_fs=True)

    def __init__(self, *arguments):
        super().__init__(self.storage, *arguments)


@pytest.fixture(scope="session")
def bucket_server(tmp_path_factory):
    """The environment variables that lead to the emulator, set here and for processes that tests start."""
    handlers = [
        (path, {name: conditional(one) for name, one in methods.items()}) for path, methods in emulator.HANDLERS
    ]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(emulator, "HANDLERS", [MOVE, *handlers])
        found = server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        address = f"http://127.0.0.1:{found.server_address[1]}"
        variables = {
            "STORAGE_EMULATOR_HOST": address,
            "TENSORSTORE_GCS_HTTP_URL": address,
            "GOOGLE_AUTH_TOKEN_FOR_TESTING": "none",
            "GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT": "false",  # asks Google for the kind of each bucket
            "XDG_CACHE_HOME": str(tmp_path_factory.mktemp("cache")),
        }
        for name, value in variables.items():
            patch.setenv(name, value)
        thread = threading.Thread(target=found.serve_forever, daemon=True)
        thread.start()
        yield variables
        found.shutdown()
        found.server_close()


@pytest.fixture
def bucket(bucket_server):
    """A new, empty bucket."""
    name = f"bucket-{uuid.uuid4().hex[:8]}"
    buckets.create_bucket(name, Handler.storage)
    return epath.Path(f"gs://{name}")
