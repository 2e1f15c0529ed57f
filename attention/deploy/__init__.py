"""What a trained network needs when it leaves the notebook.

save    what a network needs to be built again, in a folder: configuration and weights
"""

__all__ = []
