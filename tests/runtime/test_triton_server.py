"""Pictures through a real Triton server, with reference graphs: no GPU is needed."""

import json
import queue
import re
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
import pytest

from benchmarks.gpu import DIGITS
from codetr.training import dataset
from onnx_export.export import ExportConfig, export
from runtime import Detector
from runtime.__main__ import main
from tests.runtime.tiny_model import UNIT_BOXES, expected_scores, save_tiny_model
from tests.runtime.triton_server import Server, install

pytest.importorskip("tritonclient", reason='pip install -e ".[test]" for the clients')
import tritonclient.grpc
import tritonclient.http
from tritonclient.utils import InferenceServerException

SERVE = Path(__file__).parents[2] / "docs" / "serve.md"
OUTPUTS = ("num_detections", "boxes", "scores", "labels")
THRESHOLD = 0.3
CLIENTS = {"http": tritonclient.http, "grpc": tritonclient.grpc}


@pytest.fixture(scope="module")
def installed(pytestconfig):
    return install(pytestconfig.cache.mkdir("triton"))


@pytest.fixture(scope="module")
def photos():
    """Pictures of digits, none of the same size."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(dataset, "SIDES", (140, 220))
        found = [picture.image for picture in dataset.pictures("test", count=5, seed=3)]
    assert len({image.shape for image in found}) == len(found)
    return found


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    config = ExportConfig(
        preset="co_dino_digits", weights=DIGITS, height=160, width=160, batch="dynamic"
    )
    return export(config, tmp_path_factory.mktemp("export") / "model.onnx", print)[1]


@pytest.fixture(scope="module")
def detector(model):
    with Detector(model) as detector:
        yield detector


@pytest.fixture(scope="module")
def expected(detector, photos):
    found = [one.above(THRESHOLD) for one in detector(photos)]
    assert len({len(one) for one in found}) > 2  # rows of different lengths
    return found


@pytest.fixture(scope="module")
def server(installed, model, tmp_path_factory):
    yield from serve(installed, model, tmp_path_factory.mktemp("triton"), "--max-batch", "4")


def serve(installed, model, folder, *options):
    repository = folder / "models"
    assert main(["triton-repo", str(model), "-o", str(repository), *options]) == 0
    server = Server(installed, repository, folder)
    try:
        server.wait_until_ready()
        yield server
    finally:
        server.stop()


def encoded(image, suffix=".png"):
    _, data = cv2.imencode(suffix, cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
    return data.tobytes()


def connect(server, protocol):
    # A minute is not always enough where other work runs on the same cores.
    options = {"network_timeout": 300.0} if protocol == "http" else {}
    return CLIENTS[protocol].InferenceServerClient(getattr(server, protocol), **options)


def inputs_of(protocol, arrays):
    inputs = []
    for name, array in arrays.items():
        datatype = {"uint8": "UINT8", "float32": "FP32", "object": "BYTES"}[str(array.dtype)]
        inputs.append(CLIENTS[protocol].InferInput(name, list(array.shape), datatype))
        inputs[-1].set_data_from_numpy(array)
    return inputs


def ask(server, protocol, **arrays):
    """The four outputs for inputs given by name."""
    with connect(server, protocol) as client:
        result = client.infer("codetr", inputs_of(protocol, arrays))
    return [result.as_numpy(name) for name in OUTPUTS]


def files(*contents):
    """Bytes of picture files as an input."""
    return np.array([[data] for data in contents], object)


def assert_same(found, expected):
    """The outputs for one picture -> its detections, but for what batches change in the sums."""
    counts, boxes, scores, labels = found
    assert counts.dtype == np.int32
    assert counts.tolist() == [[len(expected)]]
    assert [array.shape[0] for array in (boxes, scores, labels)] == [1, 1, 1]
    np.testing.assert_allclose(boxes[0], expected.boxes, atol=0.01)
    np.testing.assert_allclose(scores[0], expected.scores, atol=1e-4)
    np.testing.assert_array_equal(labels[0], expected.labels)


def statistics(server):
    """Per model: pictures and inferences so far."""
    stats = json.load(server.get("/v2/models/stats"))["model_stats"]
    return {
        one["name"]: np.array([one["inference_count"], one["execution_count"]]) for one in stats
    }


def statistics_after(server, model, pictures, seconds=10):
    """Of one model, once it has counted so many: Triton answers before it counts."""
    deadline = time.monotonic() + seconds
    while (found := statistics(server)[model])[0] < pictures and time.monotonic() < deadline:
        time.sleep(0.05)
    return found


def metrics(server, model):
    text = server.get("/metrics", server.metrics).read().decode()
    found = re.findall(rf'^(\w+){{.*model="{model}".*}} (\d+)', text, re.MULTILINE)
    return {name: int(value) for name, value in found}


def test_live_and_ready(server):
    for path in (
        "health/live",
        "health/ready",
        "models/codetr/ready",
        "models/codetr_network/ready",
    ):
        assert server.answers(f"/v2/{path}"), path
    with connect(server, "grpc") as client:
        assert client.is_server_ready()


def test_clients_can_learn_the_classes(server):
    config = json.load(server.get("/v2/models/codetr/config"))
    model = json.loads(config["parameters"]["model"]["string_value"])
    assert model["classes"] == list("0123456789")


@pytest.mark.parametrize("protocol", CLIENTS)
def test_pixels(server, photos, expected, protocol):
    assert_same(ask(server, protocol, image=photos[0][None]), expected[0])


@pytest.mark.parametrize("protocol", CLIENTS)
def test_a_picture_file(server, photos, expected, protocol):
    assert_same(ask(server, protocol, encoded=files(encoded(photos[1]))), expected[1])


def test_a_jpeg_file(server, detector, photos):
    data = encoded(photos[2], ".jpg")
    decoded = cv2.cvtColor(cv2.imdecode(np.frombuffer(data, np.uint8), 1), cv2.COLOR_BGR2RGB)
    assert_same(ask(server, "http", encoded=files(data)), detector(decoded).above(THRESHOLD))


def test_the_example_of_the_docs(server, photos, expected, tmp_path, monkeypatch, capsys):
    [example] = re.findall(r"```python\n(.*?)```", SERVE.read_text(), re.DOTALL)
    (tmp_path / "street.jpg").write_bytes(encoded(photos[0]))
    monkeypatch.chdir(tmp_path)
    exec(example.replace("localhost:8000", server.http), {})
    found = [line.split()[0] for line in capsys.readouterr().out.splitlines()]
    assert found == [expected[0].classes[label] for label in expected[0].labels]


def test_several_pictures_in_one_request_are_filled_up(server, photos, expected):
    four = expected[:4]
    outputs = ask(server, "grpc", encoded=files(*map(encoded, photos[:4])))
    assert outputs[0].tolist() == [[len(one)] for one in four]
    for row, one in enumerate(four):
        _, *rest = (array[row : row + 1] for array in outputs)
        assert_same([outputs[0][row : row + 1], *(array[:, : len(one)] for array in rest)], one)
        assert not any(array[0, len(one) :].any() for array in rest)


def test_many_clients_at_once_share_inferences(server, photos, expected):
    def client(number):
        """Three pictures, beginning with another; half of the clients send pixels, half files."""
        protocol = list(CLIENTS)[number % 2]
        for i in range(number - 3, number):
            if number < 3:
                found = ask(server, protocol, image=photos[i][None])
            else:
                found = ask(server, protocol, encoded=files(encoded(photos[i])))
            assert_same(found, expected[i])

    before = statistics(server)
    with ThreadPoolExecutor(6) as pool:
        list(pool.map(client, range(6)))
    for name, start in before.items():
        pictures, inferences = statistics_after(server, name, start[0] + 18) - start
        assert pictures == 18
        assert 18 / 4 <= inferences < 18, name  # alone, each would take one


PHOTO = np.full((40, 60, 3), 128, np.uint8)
PNG = encoded(np.random.default_rng(0).integers(0, 255, (40, 60, 3), np.uint8))


@pytest.mark.parametrize("protocol", CLIENTS)
@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"encoded": files(b"no picture")}, "cannot decode picture in row 0: not a picture"),
        ({"encoded": files(PNG, PNG[:-99])}, "cannot decode picture in row 1: .* cut short"),
        ({"encoded": files(b"")}, "cannot read picture in row 0: .*empty"),
        ({"image": PHOTO}, r"shape for input 'image'|batch-size must be <= 4"),
        ({"image": PHOTO[None, :, :, 0]}, r"shape for input 'image'|expected 4 dimensions"),
        ({"image": PHOTO[None, :, :, [0, 1, 2, 2]]}, r"shape for input 'image'"),
        ({"image": PHOTO[None].astype(np.float32)}, "data-type is 'FP32'.*expects 'UINT8'"),
        ({"image": PHOTO[None, :0]}, r"uint8 RGB array \(h, w, 3\), got uint8 \(0, 60, 3\)"),
        ({"image": np.stack([PHOTO] * 5)}, "batch-size must be <= 4"),
        ({"image": PHOTO[None], "encoded": files(PNG)}, "either image, .* got .*image"),
        ({"picture": PHOTO[None]}, "input 'picture'"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_bad_input_is_answered(server, protocol, arrays, message):
    with pytest.raises(InferenceServerException) as caught:
        ask(server, protocol, **arrays)
    print(caught.value)
    assert re.search(message, str(caught.value))
    assert "Failed to process" not in str(caught.value)  # how Triton tells of exceptions
    assert server.answers("/v2/health/ready")


def test_a_bad_picture_does_not_hurt_its_batch(server, photos, expected):
    requests = [files(b"bad"), files(encoded(photos[0]))] * 4

    def answer(request):
        try:
            return ask(server, "http", encoded=request)
        except InferenceServerException as error:
            return error

    before = statistics(server)["codetr"]
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(answer, requests))
    for bad, good in zip(answers[::2], answers[1::2], strict=True):
        assert "cannot decode picture" in str(bad)
        assert_same(good, expected[0])
    _, inferences = statistics(server)["codetr"] - before
    assert inferences < len(requests)  # or none had company


def test_metrics(server):
    for model in ("codetr", "codetr_network"):
        values = metrics(server, model)
        assert values["nv_inference_request_success"] > 0
        assert values["nv_inference_exec_count"] > 0


def test_sigterm_answers_every_request_and_leaves_nothing(server, photos, expected):
    """The last one: it ends the server."""
    processes = server.processes()
    assert len(processes) == 4  # two instances of codetr, one of codetr_network
    answers = queue.Queue()
    four = files(*map(encoded, photos[:4]))
    with connect(server, "grpc") as client:
        for _ in range(3):  # full batches, so two are worked at and one waits
            client.async_infer(
                "codetr",
                inputs_of("grpc", {"encoded": four}),
                lambda result, error: answers.put((result, error)),
            )
        while not metrics(server, "codetr")["nv_inference_pending_request_count"]:
            assert answers.empty()
        assert server.stop() == 0
        for _ in range(3):
            result, error = answers.get(timeout=10)
            if error:  # Triton starts no inference for a model that stops, see docs/serve.md
                assert "Server not ready" in str(error)
            else:
                counts = [[len(one)] for one in expected[:4]]
                assert result.as_numpy("num_detections").tolist() == counts
    assert [pid for pid in processes if Path(f"/proc/{pid}").exists()] == []
    with pytest.raises(OSError, match="refused"):
        server.get("/v2/health/live")


def test_a_fixed_batch_without_mask(installed, tmp_path):
    """Triton puts nothing together then; a batch is filled up, and nothing of that is answered."""
    model = save_tiny_model(tmp_path / "tiny.ref.onnx", batch=2, mask=False)
    options = ("--instances", "1", "--nms", "none", "--score-threshold", "0.4")
    rgb = (200, 110, 60)  # scores 0.79, 0.47, 0.32
    for server in serve(installed, model, tmp_path, *options):
        one = np.full((1, 120, 200, 3), rgb, np.uint8)
        for count in (1, 2):
            counts, boxes, scores, labels = ask(server, "grpc", image=np.repeat(one, count, 0))
            assert counts.tolist() == [[2]] * count
            wanted = UNIT_BOXES[:2] * np.float32([200, 120, 200, 120])
            np.testing.assert_allclose(boxes, [wanted] * count, rtol=1e-5)
            np.testing.assert_allclose(scores, [expected_scores(rgb)[:2]] * count, rtol=1e-5)
            assert labels.tolist() == [[0, 1]] * count
        with pytest.raises(InferenceServerException, match="batch-size must be <= 2"):
            ask(server, "grpc", image=np.repeat(one, 3, 0))
