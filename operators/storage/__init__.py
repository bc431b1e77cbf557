"""Where bytes lie: folders and objects on a disk or in an object store, through fsspec."""

from operators.storage.folder import Storage
from operators.storage.local_file import is_temporary
from operators.storage.object_error import ObjectError

__all__ = ["ObjectError", "Storage", "is_temporary"]
