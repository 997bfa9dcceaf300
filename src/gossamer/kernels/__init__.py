"""The compiled kernels, and the registry of those that run on this machine.

``_kernels`` runs networks (for ``runtime``), ``_training`` serves sparse training (for
``sparsity`` and ``nn``). Imports neither torch nor any other room but ``errors``.
"""
