"""Training an ONNX file as it is: converted to torch, tuned on labelled images, and written back under its own names.

result = finetune("init.onnx", "photos.zip", "tuned.onnx", FinetuneOptions(epochs=3))
print(result.before.top1, result.after.top1)
"""

from onnx_ghn.finetuning.tuning import FinetuneOptions, FinetuneResult, Finetuning, finetune

__all__ = ["FinetuneOptions", "FinetuneResult", "Finetuning", "finetune"]
