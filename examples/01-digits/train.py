"""Trains the digit classifier of this example and writes `digits.onnx`, `images/` and `accuracy.txt`.

Run it with `python examples/01-digits/train.py` (needs the `dev` extra). It uses the handwritten digits that
scikit-learn bundles (1,797 images, Optical Recognition of Handwritten Digits, UCI). One third is held out: the
accuracy is measured on it alone, and the images that the demo sends are a sample of it.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from skl2onnx import to_onnx
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler

HERE = Path(__file__).resolve().parent
SEED = 7
IMAGES = 100
ENLARGED = 4  # the raw images are 32 × 32 pixels, as a camera's crop would be larger than the model's 8 × 8 input


def write_pgm(path: Path, image: NDArray[np.float32]) -> None:
    """Write an 8 × 8 image of ink 0–16 as a 32 × 32 binary PGM of brightness 0–255."""
    pixels = np.kron(np.rint(image * 255 / 16), np.ones((ENLARGED, ENLARGED))).astype(np.uint8)
    path.write_bytes(b"P5\n%d %d\n255\n" % pixels.shape[::-1] + pixels.tobytes())


def main() -> None:
    """Train, measure on the held-out third, write the files."""
    digits, labels = load_digits(return_X_y=True)
    train_x, test_x, train_y, test_y = train_test_split(
        digits.astype(np.float32), labels.astype(np.int64), test_size=1 / 3, random_state=SEED, stratify=labels
    )
    classifier = make_pipeline(
        MinMaxScaler((0, 1)), MLPClassifier((64,), alpha=1e-2, max_iter=800, random_state=SEED)
    ).fit(train_x, train_y)
    accuracy = float(classifier.score(test_x, test_y))

    model = to_onnx(
        classifier, train_x[:1], options={"zipmap": False}, target_opset=17, initial_types=None, name="digits"
    )
    (HERE / "digits.onnx").write_bytes(model.SerializeToString())

    folder = HERE / "images"
    folder.mkdir(exist_ok=True)
    for old in folder.glob("*.pgm"):
        old.unlink()
    for index, (image, label) in enumerate(zip(test_x[:IMAGES], test_y[:IMAGES], strict=True)):
        write_pgm(folder / f"{index:03d}-{label}.pgm", image.reshape(8, 8))
    card = {"trained_on": len(train_x), "held_out": len(test_x), "accuracy": round(accuracy, 4), "seed": SEED}
    (HERE / "accuracy.txt").write_text(json.dumps(card, indent=2) + "\n")
    print(card)


if __name__ == "__main__":
    main()
