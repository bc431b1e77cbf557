"""Attention of packed documents: they share the linear layers and never see each other.

layout     where the segments lie, in force for the length of a forward pass
segments   one call a segment, any device: the reference
varlen     one call for all, half precision on CUDA
flex       one generated kernel, CUDA
interface  registers with transformers, and takes the first path that computes what a layer asks for
"""

from operators.attention.interface import IMPLEMENTATION, paths_taken, register
from operators.attention.layout import PATHS, Layout, Path, in_force, plain

__all__ = ["IMPLEMENTATION", "PATHS", "Layout", "Path", "in_force", "paths_taken", "plain", "register"]
