"""The importer, which reads an ONNX file into a ``Graph``.

The file is not trusted: every size, path and reference in it is checked before it is used, and
every fault is reported as one ``UserError``.
"""

from gossamer.runtime.importer.file import fix_values, read

__all__ = ["fix_values", "read"]
