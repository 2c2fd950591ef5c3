"""One epoch in Keras from weights that onnx-ghn loaded: `python keras_epoch.py init.weights.h5`."""

from __future__ import annotations

import sys
from pathlib import Path

import keras
from drawn import images

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from keras_net import build

model = build()
model.load_weights(sys.argv[1])
model.compile(keras.optimizers.Adam(1e-3), "sparse_categorical_crossentropy", metrics=["accuracy"])
history = model.fit(*images(), batch_size=50, epochs=1, verbose=0)
print(f"loss {history.history['loss'][0]:.2f}, accuracy {history.history['accuracy'][0]:.0%}")
