"""All operations."""
from .base import OPS
from . import attention, detection, elementwise, indexing, movement, normalize, pooling, products, quantize, resize

__all__ = ["OPS"]
