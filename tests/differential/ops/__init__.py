"""All operations."""
from .base import OPS
from . import elementwise, movement, normalize, pooling, products, quantize, resize

__all__ = ["OPS"]
