"""Modules and layers, as torch.nn."""
