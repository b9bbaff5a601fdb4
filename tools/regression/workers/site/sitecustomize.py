"""Lets the CUDA build of torchvision be imported without CUDA, in every process that the serving one starts.

No CPU build of torchvision is published beside torch's, and vLLM's image processors import it. The import fails at
the declaration of two operators, which are never called.
"""

# mypy: disable-error-code="import-not-found"

from importlib.util import find_spec

if find_spec("torch") is not None and find_spec("torchvision") is not None:
    import torch

    if torch.version.cuda is None:
        torch.library.define("torchvision::nms", "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        torch.library.define("torchvision::qnms", "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
